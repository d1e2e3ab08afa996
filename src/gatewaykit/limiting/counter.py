"""What counts of one limit, in this process's memory."""

from __future__ import annotations

import math
import threading

from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing

_turning = threading.Lock()
"""Held while a counter's slices change: event loops in several threads may share it. Who only adds does not wait for
it; nothing that is added meanwhile is lost.
"""


class Counter:
    """What is ``used`` of a limit. Of that, ``before`` was used in earlier slices of time that still count.

    What comes now counts ``until`` the end of its slice's time, and from ``turns`` on another slice begins. ``settles``
    says whether what is held becomes what was really used. To count, add to ``used``, after :meth:`turn` where it is
    time for that.
    """

    __slots__ = ("_earlier", "_limit", "before", "calendar", "seeded", "settles", "turns", "until", "used")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._earlier: dict[float, int] = {}
        self.used = 0
        self.before = 0
        self.calendar = isinstance(limit.span, str)
        self.seeded = not self.calendar
        self.settles = limit.unit != "concurrency"
        self.until, self.turns = (-math.inf, -math.inf) if self.settles else (math.inf, math.inf)

    @property
    def is_blank(self) -> bool:
        """Whether it knows nothing; a seed would have to be found again."""
        return not self.used and not (self.calendar and self.seeded)

    def turn(self, now: float) -> None:
        """Begin the slice of ``now``, unless another thread has, and forget those that count no more."""
        with _turning:
            if now >= self.turns:
                self._turn(now)

    def _turn(self, now: float) -> None:
        earlier = self._earlier
        current = self.used - self.before
        earlier[self.until] = earlier.get(self.until, 0) + current  # as numbers are rounded, it may be the same slice
        self.before += current
        while earlier and (first := next(iter(earlier))) <= now:
            gone = earlier.pop(first)
            self.used -= gone
            self.before -= gone
            self.seeded = not self.calendar
        found = slicing(self._limit.span, now)
        self.until = found.leaves(found.current)
        self.turns = (found.current + 1) * found.seconds or found.ends

    def change(self, until: float, by: int) -> None:
        """What was counted ``until`` then is ``by`` more, if its slice still counts."""
        if until == self.until:
            self.used += by
        elif until in self._earlier:
            self._earlier[until] += by
            self.before += by
            self.used += by

    def seed(self, used: int, begins: float) -> None:
        """Begin the period with ``used``, if it is the one that began at ``begins``."""
        if not self.seeded and slicing(self._limit.span, begins).ends == self.until:
            self.seeded = True
            self.used += used

    def forget(self) -> None:
        """It is nobody's any more: what still is held changes nothing."""
        with _turning:
            self.until = math.nan
            self._earlier.clear()

    def standing(self, limit: Limit, asked: int, now: float) -> Standing:
        """How the limit stands, and when ``asked`` may fit."""
        return standing(limit, {**self._earlier, self.until: self.used - self.before}, self.used, asked, now)
