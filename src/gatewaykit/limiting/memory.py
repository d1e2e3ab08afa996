"""Counting in this process's memory: exact for one process, and gone with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, overload

from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing

LEASE = 60.0
_TIDY_EVERY = 4096

_Part: TypeAlias = "tuple[_Counter, float, int]"
"""What a call holds of one limit: where it is counted, until when, and how much. A plain tuple, for calls make many."""


class MemoryBackend(Backend):
    """Counts in dictionaries; never waits. ``clock`` is unix time."""

    instant = True

    def __init__(self, *, lease: float = LEASE, clock: Callable[[], float] = time.time) -> None:
        self.lease = lease
        self._clock = clock
        self._counters: dict[str, _Counter] = {}
        # Parts of calls by name, with the time at which the lease ends; in that order, for leases are equally long.
        self._holds: dict[str, tuple[float, Sequence[_Part]]] = {}
        self._first_ends = math.inf
        self._until_tidy = _TIDY_EVERY

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing."""
        if not charges:
            return Decision(())
        now = self._begin(len(charges))
        counters: list[_Counter] = []
        refused: list[int] = []
        unseeded: list[int] = []
        known = self._counters
        for position, charge in enumerate(charges):
            limit = charge.limit
            counter = known.get(limit.key) or self._new(limit)
            if now >= counter.turns:
                counter.turn(now)
            if counter.used + charge.amount > limit.amount:
                refused.append(position)
            if not counter.seeded:
                unseeded.append(position)
            counters.append(counter)
        if refused or unseeded:
            return Decision(_Standings(charges, counters, now, refused=True), tuple(refused), tuple(unseeded))
        self._take(hold, charges, counters, now)
        return Decision(_Standings(charges, counters, now))

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        self._expire(self._clock())
        held = self._holds.pop(hold, None)
        if held is None:
            return
        for (counter, until, amount), charge in zip(held[1], charges, strict=True):
            counter.change(until, (charge.amount if counter.settles else 0) - amount)

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on."""
        now = self._clock()
        self._expire(now)
        for hold in holds:
            held = self._holds.pop(hold, None)
            if held is not None:
                self._hold(hold, held[1], now)

    async def seed(self, limit: Limit, used: int) -> None:
        """Begin a calendar period with what was used in it before."""
        self._counter(limit, self._clock()).seed(used)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand."""
        now = self._begin(len(limits))
        return tuple([self._counter(limit, now).standing(limit, 0, now) for limit in limits])

    def forget_periods(self) -> None:
        """Know nothing of calendar periods any more: they have to be seeded again."""
        for key, counter in list(self._counters.items()):
            if counter.calendar:
                counter.forget()
                del self._counters[key]

    def _begin(self, uses: int) -> float:
        """The time, up to which everything has ended that should."""
        now = self._clock()
        if now >= self._first_ends:
            self._expire(now)
        self._until_tidy -= uses
        if self._until_tidy < 0:
            self._tidy(now)
        return now

    def _counter(self, limit: Limit, now: float) -> _Counter:
        counter = self._counters.get(limit.key) or self._new(limit)
        if now >= counter.turns:
            counter.turn(now)
        return counter

    def _new(self, limit: Limit) -> _Counter:
        counter = self._counters[limit.key] = _Counter(limit)
        return counter

    def _take(self, hold: str, charges: Sequence[Charge], counters: Sequence[_Counter], now: float) -> None:
        """Count all charges, and remember those that are held."""
        parts: list[_Part] = []
        for charge, counter in zip(charges, counters, strict=True):
            amount, until = charge.amount, counter.until
            counter.used += amount
            counter.amounts[until] += amount
            if charge.limit.held:
                counter.holds += 1
                parts.append((counter, until, amount))
        if parts:
            self._hold(hold, parts, now)

    def _hold(self, hold: str, parts: Sequence[_Part], now: float) -> None:
        ends = now + self.lease
        if not self._holds:
            self._first_ends = ends
        self._holds[hold] = (ends, parts)

    def _expire(self, now: float) -> None:
        """Let leases end that have ended by ``now``."""
        while self._holds:
            hold, (ends, parts) = next(iter(self._holds.items()))
            if ends > now:
                self._first_ends = ends
                return
            del self._holds[hold]
            for counter, until, amount in parts:
                counter.change(until, -amount)
        self._first_ends = math.inf

    def _tidy(self, now: float) -> None:
        """Now and then forget the counters of those of whom nothing counts any more."""
        for key, counter in list(self._counters.items()):
            if now >= counter.turns:
                counter.turn(now)
            if counter.idle:
                del self._counters[key]
        self._until_tidy = max(_TIDY_EVERY, len(self._counters))


class _Counter:
    """What counts of one limit: ``amounts`` by the time until which they do, in order, and their sum, ``used``.

    What comes now counts ``until`` the end of its slice's time, and from ``turns`` on another slice begins. ``holds``
    is how many calls under way hold something, and ``settles`` says whether that becomes what they really used.
    """

    __slots__ = ("_limit", "amounts", "calendar", "holds", "seeded", "settles", "turns", "until", "used")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.calendar = isinstance(limit.span, str)
        self.settles = limit.unit != "concurrency"
        self.amounts: dict[float, int] = {} if self.settles else {math.inf: 0}
        self.until = math.inf
        self.turns = -math.inf if self.settles else math.inf
        self.used = 0
        self.holds = 0
        self.seeded = not self.calendar

    @property
    def idle(self) -> bool:
        """Whether nothing is lost by forgetting it; a seed would have to be found again."""
        return not self.used and not self.holds and not (self.calendar and self.seeded)

    def turn(self, now: float) -> None:
        """Begin the slice of ``now``, and forget those that count no more."""
        found = slicing(self._limit.span, now)
        self.until = found.leaves(found.current)
        self.turns = (found.current + 1) * found.seconds or found.ends
        while self.amounts and (first := next(iter(self.amounts))) <= now:
            self.used -= self.amounts.pop(first)
            self.seeded = not self.calendar
        self.amounts.setdefault(self.until, 0)

    def change(self, until: float, by: int) -> None:
        """A part of a call is over; it counts ``by`` more than it held, if its slice still counts."""
        self.holds -= 1
        if until in self.amounts:
            self.used += by
            self.amounts[until] += by

    def seed(self, used: int) -> None:
        """Begin the period with ``used``."""
        if not self.seeded:
            self.seeded = True
            self.used += used
            self.amounts[self.until] += used

    def forget(self) -> None:
        """What still is held changes nothing any more."""
        self.amounts.clear()
        self.used = 0

    def standing(self, limit: Limit, asked: int, now: float) -> Standing:
        """How the limit stands, and when ``asked`` may fit."""
        return standing(limit, self.amounts, self.used, asked, now)


class _Standings(Sequence[Standing]):
    """How the limits of a decision stand, each worked out when it is asked for: not all of them are told."""

    __slots__ = ("_asked", "_charges", "_counters", "_now")

    def __init__(
        self, charges: Sequence[Charge], counters: Sequence[_Counter], now: float, *, refused: bool = False
    ) -> None:
        self._charges = charges
        self._counters = counters
        self._now = now
        self._asked = refused

    def __len__(self) -> int:
        return len(self._charges)

    @overload
    def __getitem__(self, place: int) -> Standing: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Standing]: ...
    def __getitem__(self, place: int | slice) -> Standing | Sequence[Standing]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        charge, counter = self._charges[place], self._counters[place]
        if self._asked or not counter.amounts[counter.until] or counter.until == math.inf:
            return counter.standing(charge.limit, charge.amount if self._asked else 0, self._now)
        return Standing(charge.limit, counter.used, counter.until - self._now)
