"""The prompt cache: how much of a prompt was seen a moment ago in the same session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_PROMPTS = 1000


@dataclass(frozen=True)
class _Prompt:
    parts: tuple[str, ...]
    used_at: float


class PromptCache:
    """Keeps the last prompt of each session; only byte-identical leading parts count as cached."""

    def __init__(self, lifetime: float, clock: Callable[[], float]) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._prompts: dict[tuple[str, ...], _Prompt] = {}

    def hit(self, session: tuple[str, ...], parts: Sequence[str]) -> int:
        """How many leading ``parts`` are cached; remembers ``parts`` for the next request."""
        now = self._clock()
        last = self._prompts.pop(session, None)
        if len(self._prompts) >= MOST_PROMPTS:
            del self._prompts[next(iter(self._prompts))]
        self._prompts[session] = _Prompt(tuple(parts), now)
        if last is None or now - last.used_at > self._lifetime:
            return 0
        same = 0
        for old, new in zip(last.parts, parts, strict=False):
            if old != new:
                break
            same += 1
        return same
