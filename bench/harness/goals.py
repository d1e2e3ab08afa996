"""The goals: limits that the figures of the gateway are held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A limit and the value measured against it."""

    what: str
    value: float
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the value keeps the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def short(self) -> str:
        """The limit and whether it is kept, for a table's cell."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g}{self.unit} {'met' if self.met else 'MISSED'}"


REQUESTS_RATIO = 0.65
REQUESTS_RATIO_AT = ("16", "64")
CHUNK_RATIO = {"passthrough": 1.3, "translation": 1.6}
ADDED_P50_MS = 1.5
ADDED_P99_MS = 4.0
FIRST_ADDED_P50_MS = 3.0
FIRST_ADDED_AT = "100"
IDLE_MB = 70.0
KB_PER_STREAM = 60.0
START_S = 1.0
WORKERS_RATIO = 1.8
METRICS_ADDED_US = 60.0
BOOKS_RATIO = 1.25
BOOKS_CHUNK_RATIO = 1.05  # nothing, but for the measurement's own scatter
BOOKS_RATE_PART = 0.95  # of the rate asked for; the clock stops at the last answer
BOOKS_GROWTH_PER_S = 10.0  # a hundredth of the flood
BOOKS_SAMPLES = 50  # with fewer the ledger's own rhythm looks like growth
BOOKS_REDIS_BEFORE = 1.0
BOOKS_REDIS_FROZEN_MS = 25.0  # half of what the gateway waits for a Redis that is silent
OF_GATEWAY = frozenset(CHUNK_RATIO)
