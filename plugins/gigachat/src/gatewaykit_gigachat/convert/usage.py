"""Token counts of an answer, whatever shape they come in."""

from __future__ import annotations

from typing import Any

from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.types import Usage
from gatewaykit_gigachat.convert.translation import CachedTokens

_MOST = 2**53


class UsageMeter:
    """Collects the ``usage`` of one answer's documents.

    Streams report once, at the end. Some older ones report in every event the increments since the last one: the prompt
    is counted in the first, and 0 later. Those are added up; of anything else the last report counts.
    """

    def __init__(self) -> None:
        self._prompt = self._completion = self._cached = 0
        self._any = False

    def add(self, usage: Any) -> None:
        """Take a document's ``usage``. Raises :class:`~gatewaykit.errors.ProviderBadAnswer` for what is none."""
        if usage is None:
            return
        if type(usage) is not dict:
            raise ProviderBadAnswer(detail="usage is not an object")
        prompt = _count(usage, "prompt_tokens")
        completion = _count(usage, "completion_tokens")
        cached = _count(usage, "precached_prompt_tokens")
        if self._prompt and not prompt:
            self._completion += completion
            self._cached += cached
        else:
            self._prompt, self._completion, self._cached = prompt, completion, cached
        self._any = True

    def total(self, cached_included: CachedTokens) -> Usage | None:
        """The tokens of the whole answer; ``None`` when there was no report.

        ``prompt_tokens`` holds the cached tokens (``yes``), does not (``no``), or does unless there are more of them
        (``auto``).
        """
        if not self._any:
            return None
        apart = cached_included == "no" or (cached_included == "auto" and self._cached > self._prompt)
        prompt = self._prompt + self._cached if apart else self._prompt
        return Usage(prompt, self._completion, min(self._cached, prompt))


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value < _MOST:
        raise ProviderBadAnswer(detail=f"usage.{name} is not a count")
    return value


__all__ = ["UsageMeter"]
