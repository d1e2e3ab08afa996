"""What the limiter remembers for metrics and warnings: whom it refused, and how full budgets are."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from gatewaykit.limiting import Charge, Decision
from gatewaykit.limits import Standing
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import BUDGET_USED, REFUSALS, UNIT, WHOSE
from gatewaykit.pricing import money_text

logger = logging.getLogger(__name__)

MOST_BUDGETS = 10_000
"""Budgets that are remembered; of more, those that came first are forgotten until they come again."""


class Notes:
    """Written by event loops, read from any thread. From the share ``warn_at`` on a budget is worth a warning."""

    def __init__(self, warn_at: float, currency: str) -> None:
        self._warn_at = warn_at
        self._currency = currency
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._budgets: dict[str, tuple[Sequence[Standing], int, float]] = {}
        self._warned: dict[str, float] = {}

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

    @property
    def has_budgets(self) -> bool:
        """Whether any call was under one."""
        return bool(self._budgets)

    def warn(self) -> None:
        """Say of each budget once in its period that most of it is used. For one thread at a time."""
        now = time.monotonic()
        self._warned = {key: until for key, until in self._warned.items() if until > now}
        for standing, until in self._lasting(now):
            limit = standing.limit
            if _share(standing) < self._warn_at or limit.key in self._warned:
                continue
            self._warned[limit.key] = until
            amounts = money_text(standing.used), money_text(limit.amount), self._currency
            logger.warning(
                "%.0f %% of the budget of %s are used: %s of %s %s", _share(standing) * 100, limit.subject, *amounts
            )

    def readings(self) -> Iterator[Reading]:
        """The counts, and for each kind of subject its fullest budget whose period lasts."""
        for (whose, unit), count in tuple(self._refusals.items()):
            yield Reading(REFUSALS, count, {WHOSE: whose, UNIT: unit})
        fullest: dict[str, float] = {}
        for standing, _ in self._lasting(time.monotonic()):
            whose = standing.limit.whose
            fullest[whose] = max(fullest.get(whose, 0.0), _share(standing))
        for whose, share in fullest.items():
            yield Reading(BUDGET_USED, share, {WHOSE: whose})

    def _lasting(self, now: float) -> Iterator[tuple[Standing, float]]:
        """The budgets whose period lasts, and until when."""
        for standings, position, asked in tuple(self._budgets.values()):
            standing = standings[position]
            if asked + standing.resets > now:
                yield standing, asked + standing.resets


def _share(standing: Standing) -> float:
    return standing.used / standing.limit.amount if standing.limit.amount else 1.0
