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
"""Budgets that are remembered; of more, those that came first are forgotten until they come again."""


class Notes:
    """Written by event loops, read from any thread."""

    def __init__(self) -> None:
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._budgets: dict[str, tuple[Sequence[Standing], int, float]] = {}

    def refused(self, decision: Decision, charges: Sequence[Charge]) -> None:
        """A call was refused: count what for."""
        for position in decision.refused:
            limit = charges[position].limit
            self._refusals[limit.whose, limit.unit] += 1

    def budgets(self, standings: Sequence[Standing], budgets: Sequence[tuple[int, str]]) -> None:
        """How full the budgets in these positions, of these keys, are by ``standings``."""
        now = time.monotonic()
        known = self._budgets
        for position, key in budgets:
            known[key] = standings, position, now
        while len(known) > MOST_BUDGETS:
            known.pop(next(iter(known)), None)

    def readings(self) -> Iterator[Reading]:
        """The counts, and for each kind of subject its fullest budget whose period lasts."""
        for (whose, unit), count in tuple(self._refusals.items()):
            yield Reading(REFUSALS, count, {WHOSE: whose, UNIT: unit})
        fullest: dict[str, float] = {}
        now = time.monotonic()
        for standings, position, asked in tuple(self._budgets.values()):
            standing = standings[position]
            if asked + standing.resets > now:
                limit = standing.limit
                share = standing.used / limit.amount if limit.amount else 1.0
                fullest[limit.whose] = max(fullest.get(limit.whose, 0.0), share)
        for whose, share in fullest.items():
            yield Reading(BUDGET_USED, share, {WHOSE: whose})
