"""Token counts of an answer, whatever shape they come in."""

from __future__ import annotations

from typing import Any

from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.types import Usage
from gatewaykit_gigachat.convert.translation import CachedTokens

_MOST = 2**53
_COUNTS = ("prompt_tokens", "completion_tokens", "precached_prompt_tokens")


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
        prompt, completion, cached = _counts(usage)
        if self._prompt and not prompt:
            self._completion += completion
            self._cached += cached
        else:
            self._prompt, self._completion, self._cached = prompt, completion, cached
        self._any = True

    def total(self, cached_included: CachedTokens) -> Usage | None:
        """The tokens of the whole answer; ``None`` when there was no report."""
        return _total(self._prompt, self._completion, self._cached, cached_included) if self._any else None


def usage_of(usage: Any, cached_included: CachedTokens) -> Usage | None:
    """The tokens of an answer that reports once. Raises :class:`~gatewaykit.errors.ProviderBadAnswer`."""
    return None if usage is None else _total(*_counts(usage), cached_included)


def _counts(usage: Any) -> tuple[int, int, int]:
    if type(usage) is not dict:
        raise ProviderBadAnswer(detail="usage is not an object")
    counts = []
    for name in _COUNTS:
        value = usage.get(name)
        if value is None:
            value = 0
        elif type(value) is not int or not 0 <= value < _MOST:
            raise ProviderBadAnswer(detail=f"usage.{name} is not a count")
        counts.append(value)
    prompt, completion, cached = counts
    return prompt, completion, cached


def _total(prompt: int, completion: int, cached: int, cached_included: CachedTokens) -> Usage:
    """``prompt_tokens`` holds the cached tokens (``yes``), does not (``no``), or does unless there are more of them
    (``auto``).
    """
    if cached_included == "no" or (cached_included == "auto" and cached > prompt):
        prompt += cached
    return Usage(prompt, completion, min(cached, prompt))


__all__ = ["UsageMeter", "usage_of"]
