"""What the limiter remembers for the metrics: whom it refused, and how full budgets are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from gatewaykit.limiting import Charge, Decision
from gatewaykit.limits import Standing
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import BUDGET_USED, REFUSALS, UNIT, WHOSE

MOST_BUDGETS = 10_000
"""Budgets that are remembered; of more, those that were asked for the longest ago are forgotten."""


class Notes:
    """Written by event loops, read from any thread."""

    def __init__(self) -> None:
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._budgets: dict[str, tuple[str, float, float]] = {}

    def refused(self, decision: Decision, charges: Sequence[Charge]) -> None:
        """A call was refused: count what for."""
        for position in decision.refused:
            limit = charges[position].limit
            self._refusals[limit.whose, limit.unit] += 1

    def budget(self, standing: Standing) -> None:
        """How full a budget is, until its period ends."""
        limit = standing.limit
        self._budgets.pop(limit.key, None)
        share = standing.used / limit.amount if limit.amount else 1.0
        self._budgets[limit.key] = (limit.whose, share, time.monotonic() + standing.resets)
        if len(self._budgets) > MOST_BUDGETS:
            self._budgets.pop(next(iter(self._budgets)), None)

    def readings(self) -> Iterator[Reading]:
        """The counts, and for each kind of subject its fullest budget."""
        for (whose, unit), count in tuple(self._refusals.items()):
            yield Reading(REFUSALS, count, {WHOSE: whose, UNIT: unit})
        fullest: dict[str, float] = {}
        now = time.monotonic()
        for whose, share, until in tuple(self._budgets.values()):
            if until > now:
                fullest[whose] = max(fullest.get(whose, 0.0), share)
        for whose, share in fullest.items():
            yield Reading(BUDGET_USED, share, {WHOSE: whose})
