"""Parallel requests per client, and the rate of token requests."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping

from .refusals import api_refusal
from .stats import Stats
from .tokens import Grant


class Place:
    """One request's place; without ``release`` it is a place where there is no limit."""

    def __init__(self, release: Callable[[], None] | None = None) -> None:
        self._release = release

    def leave(self) -> None:
        """Give the place back; again does nothing."""
        if self._release is not None:
            self._release()
            self._release = None


class ParallelLimit:
    """At most so many requests of one client at a time; one more is refused at once."""

    def __init__(self, limits: Mapping[str, int], stats: Stats) -> None:
        self._limits = limits
        self._stats = stats
        self._held: Counter[str] = Counter()

    def enter(self, grant: Grant) -> Place:
        """Take a place; 429 when there is none."""
        if self._held[grant.client_id] >= self._limits.get(grant.scope, 1):
            self._stats.refused_parallel += 1
            raise api_refusal(429)
        self._held[grant.client_id] += 1
        self._stats.parallel += 1
        self._stats.peak_parallel = max(self._stats.peak_parallel, self._stats.parallel)

        def release() -> None:
            self._stats.parallel -= 1
            self._held[grant.client_id] -= 1

        return Place(release)


class TokenRate:
    """At most so many token requests of one client in any one second."""

    def __init__(self, per_second: int, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._clock = clock
        self._seen: defaultdict[str, deque[float]] = defaultdict(deque)

    def count(self, client_id: str) -> None:
        """Count one request; 429 when it is one too many."""
        now = self._clock()
        seen = self._seen[client_id]
        while seen and seen[0] <= now - 1.0:
            seen.popleft()
        if len(seen) >= self._per_second:
            raise api_refusal(429)
        seen.append(now)
