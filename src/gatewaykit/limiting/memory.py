"""Counting in this process's memory: exact for one process, and gone with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing

LEASE = 60.0
_TIDY_EVERY = 4096


class MemoryBackend(Backend):
    """Counts in dictionaries; never waits. ``clock`` is unix time."""

    instant = True

    def __init__(self, *, lease: float = LEASE, clock: Callable[[], float] = time.time) -> None:
        self.lease = lease
        self._clock = clock
        self._counters: dict[str, _Counter] = {}
        self._until_tidy = _TIDY_EVERY

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing."""
        now = self._clock()
        self._tidy(now, len(charges))
        refused: list[int] = []
        unseeded: list[int] = []
        counters: list[_Counter] = []
        for position, charge in enumerate(charges):
            counter = self._counter(charge.limit, now)
            counters.append(counter)
            if counter.used + charge.amount > charge.limit.amount:
                refused.append(position)
            if not counter.seeded:
                unseeded.append(position)
        pairs = zip(charges, counters, strict=True)
        if refused or unseeded:
            standings = tuple([counter.standing(charge.limit, charge.amount, now) for charge, counter in pairs])
            return Decision(standings, tuple(refused), tuple(unseeded))
        ends = now + self.lease
        for charge, counter in pairs:
            counter.take(hold if charge.limit.held else None, charge.amount, ends)
        pairs = zip(charges, counters, strict=True)
        return Decision(tuple([counter.standing(charge.limit, 0, now) for charge, counter in pairs]))

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        now = self._clock()
        for charge in charges:
            counter = self._counters.get(charge.limit.key)
            if counter is not None:
                counter.expire(now)
                counter.settle(hold, charge.amount if charge.limit.unit != "concurrency" else 0)

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on."""
        now = self._clock()
        for hold, limits in holds.items():
            for limit in limits:
                counter = self._counters.get(limit.key)
                if counter is not None:
                    counter.expire(now)
                    counter.renew(hold, now + self.lease)

    async def seed(self, limit: Limit, used: int) -> None:
        """Begin a calendar period with what was used in it before."""
        self._counter(limit, self._clock()).seed(used)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand."""
        now = self._clock()
        self._tidy(now, len(limits))
        return tuple([self._counter(limit, now).standing(limit, 0, now) for limit in limits])

    def forget_periods(self) -> None:
        """Know nothing of calendar periods any more: they have to be seeded again."""
        for key, counter in list(self._counters.items()):
            if counter.calendar:
                del self._counters[key]

    def _counter(self, limit: Limit, now: float) -> _Counter:
        key = limit.key
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = _Counter(limit)
        counter.advance(now)
        return counter

    def _tidy(self, now: float, uses: int) -> None:
        """Now and then forget the counters of those of whom nothing counts any more."""
        self._until_tidy -= uses
        if self._until_tidy >= 0:
            return
        for key, counter in list(self._counters.items()):
            counter.advance(now)
            if counter.idle:
                del self._counters[key]
        self._until_tidy = max(_TIDY_EVERY, len(self._counters))


class _Counter:
    """What counts of one limit, by the time until which it does, and what of that is held until when.

    Both are in the order in which they end: slices follow one another, and all leases are equally long.
    """

    __slots__ = ("_amounts", "_holds", "_limit", "_turns", "_until", "calendar", "seeded", "used")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.calendar = isinstance(limit.span, str)
        self._amounts: dict[float, int] = {}
        self._holds: dict[str, tuple[float, int, float]] = {}
        self._until = math.inf
        self._turns = math.inf if limit.unit == "concurrency" else -math.inf
        self.used = 0
        self.seeded = not self.calendar

    @property
    def idle(self) -> bool:
        """Whether nothing is lost by forgetting it; a seed would have to be found again."""
        return not self.used and not self._holds and not (self.calendar and self.seeded)

    def advance(self, now: float) -> None:
        """Let slices and leases end that have ended by ``now``."""
        if now >= self._turns:
            self._turn(now)
        if self._holds:
            self.expire(now)

    def expire(self, now: float) -> None:
        """Let leases end that have ended by ``now``."""
        while self._holds:
            hold, (_, _, ends) = next(iter(self._holds.items()))
            if ends > now:
                return
            self.settle(hold, 0)

    def take(self, hold: str | None, amount: int, ends: float) -> None:
        """Count ``amount`` now, and remember whose it is."""
        if hold is not None:
            self._holds[hold] = (self._until, amount, ends)
        self._add(self._until, amount)

    def settle(self, hold: str, amount: int) -> None:
        """Count ``amount`` instead of what is held, if it still is."""
        held = self._holds.pop(hold, None)
        if held is not None and held[0] in self._amounts:
            self._add(held[0], amount - held[1])

    def renew(self, hold: str, ends: float) -> None:
        """Let a hold live on."""
        held = self._holds.pop(hold, None)
        if held is not None:
            self._holds[hold] = (held[0], held[1], ends)

    def seed(self, used: int) -> None:
        """Begin the period with ``used``."""
        if not self.seeded:
            self.seeded = True
            self._add(self._until, used)

    def standing(self, limit: Limit, asked: int, now: float) -> Standing:
        """How the limit stands, and when ``asked`` may fit."""
        return standing(limit, self._amounts, self.used, asked, now)

    def _turn(self, now: float) -> None:
        """Begin the slice of ``now``, and forget those that count no more."""
        found = slicing(self._limit.span, now)
        self._until = found.leaves(found.current)
        self._turns = (found.current + 1) * found.seconds or found.ends
        while self._amounts and (first := next(iter(self._amounts))) <= now:
            self.used -= self._amounts.pop(first)
            self.seeded = not self.calendar

    def _add(self, until: float, amount: int) -> None:
        self.used += amount
        self._amounts[until] = self._amounts.get(until, 0) + amount
