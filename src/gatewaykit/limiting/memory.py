"""Counting in this process's memory: exact for one process, and gone with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, overload

from gatewaykit.limiting.backend import Backend, Charge, Charges, Decision, Standings
from gatewaykit.limiting.counter import Counter
from gatewaykit.limits import Limit, Standing

LEASE = 60.0
_TIDY_EVERY = 4096
_MOST_GROUPS = 4096

_Held: TypeAlias = "tuple[Sequence[Counter], Sequence[float], Sequence[int], int]"
"""What a call holds: where it is counted, until when, how much, and the number of turns that had been made then. Plain
rows, for calls make many.
"""


class MemoryBackend(Backend):
    """Counts in dictionaries; never waits. ``clock`` is unix time. Event loops in several threads may share it."""

    instant = True

    def __init__(self, *, lease: float = LEASE, clock: Callable[[], float] = time.time) -> None:
        self.lease = lease
        self._clock = clock
        # Another thread may change these at any time: who looks through them makes a copy, in one step.
        self._counters: dict[str, Counter] = {}
        self._groups: dict[int, _Group] = {}
        # What calls hold, by name, with the time at which the lease ends; in that order, for leases are equally long.
        self._holds: dict[str, tuple[float, _Held]] = {}
        self._first_ends = math.inf
        self._until_tidy = _TIDY_EVERY
        self._turns = 0
        """How often counters have turned to another slice: while it stands, so do their ends."""

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing."""
        if not charges:
            return Decision(())
        now = self._begin(len(charges))
        group, amounts = self._parted(charges)
        if now >= group.turns:
            group.turn(now)
            self._turns += 1
        if not group.take(amounts):
            return group.refusal(amounts, now)
        if group.held:
            self._hold(hold, group.holding(amounts, self._turns), now)
        return Decision(_Standings(group, now, 0 not in amounts), (), (), now)

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        now = self._clock()
        if now >= self._first_ends:
            self._expire(now)
        found = self._holds.pop(hold, None)
        if found is None:
            return
        counters, untils, held, turns = found[1]
        amounts = charges.amounts if isinstance(charges, Charges) else [charge.amount for charge in charges]
        if turns == self._turns:
            for counter, taken, amount in zip(counters, held, amounts, strict=True):
                counter.used += amount - taken if counter.settles else -taken
            return
        for counter, until, taken, amount in zip(counters, untils, held, amounts, strict=True):
            counter.change(until, amount - taken if counter.settles else -taken)

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on."""
        now = self._clock()
        self._expire(now)
        for hold in holds:
            found = self._holds.pop(hold, None)
            if found is not None:
                self._hold(hold, found[1], now)

    async def seed(self, limit: Limit, used: int, begins: float) -> None:
        """Begin a calendar period with what was used in it before."""
        self._turned(limit, self._clock()).seed(used, begins)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand."""
        now = self._begin(len(limits))
        return tuple([self._turned(limit, now).standing(limit, 0, now) for limit in limits])

    def forget_periods(self) -> None:
        """Know nothing of calendar periods any more: they have to be seeded again."""
        for key, counter in self._counters.copy().items():
            if counter.calendar:
                counter.forget()
                self._counters.pop(key, None)
        self._groups.clear()
        self._turns += 1

    def _begin(self, uses: int) -> float:
        """The time, up to which everything has ended that should."""
        now = self._clock()
        if now >= self._first_ends:
            self._expire(now)
        self._until_tidy -= uses
        if self._until_tidy < 0:
            self._tidy(now)
        return now

    def _parted(self, charges: Sequence[Charge]) -> tuple[_Group, Sequence[int]]:
        """The group of the limits, remembered for those who will come with the same ones, and the amounts."""
        if not isinstance(charges, Charges):
            group = _Group(tuple([charge.limit for charge in charges]), self._counter)
            return group, [charge.amount for charge in charges]
        limits = charges.limits
        known = self._groups.get(id(limits))
        if known is None:
            if len(self._groups) >= _MOST_GROUPS:
                self._groups.clear()
            known = self._groups[id(limits)] = _Group(limits, self._counter)
        return known, charges.amounts

    def _counter(self, limit: Limit) -> Counter:
        counter = self._counters.get(limit.key)
        if counter is None:
            counter = self._counters.setdefault(limit.key, Counter(limit))
        return counter

    def _turned(self, limit: Limit, now: float) -> Counter:
        counter = self._counter(limit)
        if now >= counter.turns:
            counter.turn(now)
            self._turns += 1
        return counter

    def _hold(self, hold: str, held: _Held, now: float) -> None:
        ends = now + self.lease
        if not self._holds:
            self._first_ends = ends
        self._holds[hold] = (ends, held)

    def _expire(self, now: float) -> None:
        """Let leases end that have ended by ``now``."""
        for hold, (ends, held) in self._holds.copy().items():
            if ends > now:
                self._first_ends = ends
                return
            if self._holds.pop(hold, None) is not None:
                for counter, until, amount in zip(*held[:3], strict=True):
                    counter.change(until, -amount)
        self._first_ends = now + self.lease  # no hold that another thread has made meanwhile ends earlier

    def _tidy(self, now: float) -> None:
        """Now and then forget the counters of those of whom nothing counts any more, nor may when a call ends."""
        rows = {id(counters): counters for _, (counters, *_) in list(self._holds.values())}
        busy = {counter for counters in rows.values() for counter in counters}
        for key, counter in self._counters.copy().items():
            if now >= counter.turns:
                counter.turn(now)
            if counter.is_blank and counter not in busy:
                self._counters.pop(key, None)
                self._groups.clear()
        self._turns += 1
        self._until_tidy = max(_TIDY_EVERY, len(self._counters), len(self._holds))


class _Group:
    """Limits that are charged together, in the order of ``limits``, with their ``counters``.

    ``held`` are those counters where calls hold something. From ``turns`` on one of the counters may have another
    slice.
    """

    __slots__ = (
        "_calendar", "_held_at", "_made_at", "_most", "_resets", "_second", "_untils", "counters", "held", "limits",
        "turns",
    )  # fmt: skip

    def __init__(self, limits: tuple[Limit, ...], counter: Callable[[Limit], Counter]) -> None:
        self.limits = limits
        self.counters = tuple([counter(limit) for limit in limits])
        self._most = tuple([limit.amount for limit in limits])
        self._calendar = tuple([counter for counter in self.counters if counter.calendar])
        self._held_at = tuple([place for place, limit in enumerate(limits) if limit.held])
        self.held = tuple([self.counters[place] for place in self._held_at])
        self.turns = -math.inf
        self._made_at = -1
        self._untils: Sequence[float] = ()
        self._second = -1
        self._resets: Sequence[float] = ()

    def turn(self, now: float) -> None:
        """Let every counter count in the slice of ``now``."""
        self._second = -1
        for counter in self.counters:
            if now >= counter.turns:
                counter.turn(now)
        self.turns = min([counter.turns for counter in self.counters])

    def take(self, amounts: Sequence[int]) -> bool:
        """Count all of ``amounts``, or nothing where one does not fit or a period has no seed yet."""
        for counter in self._calendar:
            if not counter.seeded:
                return False
        taken = 0
        for counter, most, amount in zip(self.counters, self._most, amounts, strict=True):
            used = counter.used + amount
            if used > most:
                break
            counter.used = used
            taken += 1
        else:
            return True
        for counter, amount in zip(self.counters[:taken], amounts, strict=False):
            counter.used -= amount
        return False

    def holding(self, amounts: Sequence[int], turns: int) -> _Held:
        """What a call holds that has taken ``amounts``, when so many turns have been made."""
        if turns != self._made_at:
            self._made_at, self._untils = turns, tuple([counter.until for counter in self.held])
        return self.held, self._untils, [amounts[place] for place in self._held_at], turns

    def resets(self, now: float) -> Sequence[float]:
        """In how many seconds nothing of the slices of ``now`` counts any more, as it was when its second began."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._resets = [counter.until - second if counter.settles else 0.0 for counter in self.counters]
        return self._resets

    def refusal(self, amounts: Sequence[int], now: float) -> Decision:
        """The answer where ``amounts`` do not fit, or a period has no seed yet."""
        counters = self.counters
        told = zip(self.limits, counters, amounts, strict=True)
        fits = zip(counters, self._most, amounts, strict=True)
        return Decision(
            tuple([counter.standing(limit, amount, now) for limit, counter, amount in told]),
            tuple([place for place, (counter, most, amount) in enumerate(fits) if counter.used + amount > most]),
            tuple([place for place, counter in enumerate(counters) if not counter.seeded]),
            now,
        )


class _Standings(Standings):
    """How the limits of a group stand after something was taken; ``everywhere`` says that it was of each of them."""

    __slots__ = ("_everywhere", "_group", "_now")

    def __init__(self, group: _Group, now: float, everywhere: bool) -> None:
        self._group = group
        self._now = now
        self._everywhere = everywhere

    def __len__(self) -> int:
        return len(self._group.limits)

    def figures(self, count: int) -> tuple[Sequence[int], Sequence[float]]:
        """As the stores' contract says, from rows of numbers."""
        counters = self._group.counters[:count]
        used = [counter.used for counter in counters]
        if not self._everywhere and any(counter.used == counter.before for counter in counters):
            return used, [standing.resets for standing in self[:count]]  # nothing of this slice counts there
        return used, self._group.resets(self._now)

    @overload
    def __getitem__(self, place: int) -> Standing: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Standing]: ...
    def __getitem__(self, place: int | slice) -> Standing | Sequence[Standing]:
        if isinstance(place, int):
            return self[place : place + 1 or None][0]
        now = self._now
        return [
            Standing(limit, counter.used, counter.until - now if counter.settles else 0.0)
            if counter.used != counter.before
            else counter.standing(limit, 0, now)
            for limit, counter in zip(self._group.limits[place], self._group.counters[place], strict=True)
        ]
