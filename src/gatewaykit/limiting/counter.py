"""What counts of one limit, in this process's memory."""

from __future__ import annotations

import math

from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing


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
        """Begin the slice of ``now``, and forget those that count no more."""
        earlier = self._earlier
        earlier[self.until] = self.used - self.before
        while earlier and (first := next(iter(earlier))) <= now:
            self.used -= earlier.pop(first)
            self.seeded = not self.calendar
        self.before = self.used
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

    def seed(self, used: int) -> None:
        """Begin the period with ``used``."""
        if not self.seeded:
            self.seeded = True
            self.used += used

    def forget(self) -> None:
        """It is nobody's any more: what still is held changes nothing."""
        self.until = math.nan
        self._earlier.clear()

    def standing(self, limit: Limit, asked: int, now: float) -> Standing:
        """How the limit stands, and when ``asked`` may fit."""
        return standing(limit, {**self._earlier, self.until: self.used - self.before}, self.used, asked, now)
