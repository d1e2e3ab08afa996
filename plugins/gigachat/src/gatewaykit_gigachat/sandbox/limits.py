"""Parallel requests per client, and the rate of token requests."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from .refusals import api_refusal
from .stats import Stats
from .tokens import Grant


class ParallelLimit:
    """At most so many requests of one client at a time; one more is refused at once."""

    def __init__(self, limits: Mapping[str, int], stats: Stats) -> None:
        self._limits = limits
        self._stats = stats
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, grant: Grant) -> Iterator[None]:
        """Hold a place until the answer's last byte; 429 when there is none."""
        if self._held[grant.client_id] >= self._limits.get(grant.scope, 1):
            self._stats.refused_parallel += 1
            raise api_refusal(429)
        self._held[grant.client_id] += 1
        self._stats.parallel += 1
        self._stats.peak_parallel = max(self._stats.peak_parallel, self._stats.parallel)
        try:
            yield
        finally:
            self._stats.parallel -= 1
            self._held[grant.client_id] -= 1
            if not self._held[grant.client_id]:
                del self._held[grant.client_id]


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
