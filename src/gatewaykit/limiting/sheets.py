"""Limits as the scripts in Redis are told them, and what the scripts tell of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias, overload

import msgspec

from gatewaykit.limiting.backend import Decision, Standings
from gatewaykit.limits import Limit, Period, Standing, period

_MOST = 2**53
_LONGEST_NAME = 256
_HOUR = 3600
_pack = msgspec.msgpack.Encoder().encode
_Term: TypeAlias = "tuple[str, int, int, int, int, int]"


class Sheet:
    """Limits by subject, as scripts have them: ``keys`` are those of the subjects' states.

    ``limits`` are as somebody gave them; ``rows`` says for each of them in which place the scripts have it.
    """

    __slots__ = ("_groups", "_hour", "_names", "_order", "_resets", "_seconds", "_terms", "keys", "limits", "rows")

    def __init__(self, prefix: str, limits: tuple[Limit, ...]) -> None:
        self.limits = limits
        by_subject: dict[str, list[int]] = {}
        for place, limit in enumerate(limits):
            by_subject.setdefault(state_key(prefix, limit.subject), []).append(place)
        self.keys = tuple(by_subject)
        self._groups = tuple(by_subject.values())
        self._order = [place for places in self._groups for place in places]
        self._names = [
            ["" if limits[place].unit == "concurrency" else name_of(limits[place]) for place in places]
            for places in self._groups
        ]
        self.rows = sorted(range(len(limits)), key=self._order.__getitem__)
        self._hour = -1
        self._terms = b""
        self._seconds: tuple[int, ...] = ()
        self._resets: Sequence[float] = ()

    def terms(self, now: float) -> bytes:
        """What the scripts are told of the limits in the calendar periods of ``now``."""
        hour = int(now // _HOUR)
        if hour != self._hour:
            self._hour = hour
            self._terms = _pack([[_term(self.limits[place], hour) for place in places] for places in self._groups])
        return self._terms

    def ordered(self, amounts: Sequence[int]) -> list[int]:
        """Amounts in the order of the scripts."""
        return [within(amounts[place]) for place in self._order]

    def settled(self, amounts: Sequence[int]) -> list[dict[str, int]]:
        """Real amounts of each subject, by name of the limit; those of concurrency are missing."""
        return [
            {name: within(amounts[place]) for place, name in zip(places, names, strict=True) if name}
            for places, names in zip(self._groups, self._names, strict=True)
        ]

    def resets(self, milliseconds: tuple[int, ...]) -> Sequence[float]:
        """Whole seconds, rounded up; the same object while they are the same."""
        seconds = tuple([-1 if number < 0 else -(-number // 1000) for number in milliseconds])
        if seconds != self._seconds:
            self._seconds = seconds
            self._resets = [math.inf if number < 0 else float(number) for number in seconds]
        return self._resets


class Told(Standings):
    """What a reservation was answered: of each limit, in the order of the scripts, state, used, resets and room."""

    __slots__ = ("_numbers", "_sheet")

    def __init__(self, sheet: Sheet, numbers: Sequence[int]) -> None:
        self._sheet = sheet
        self._numbers = numbers

    def decision(self, now: float) -> Decision:
        """The decision of ``now`` that these are the standings of."""
        states = self._numbers[::4]
        if not any(states):
            return Decision(self, now=now)
        told = [states[row] for row in self._sheet.rows]
        refused = tuple([place for place, state in enumerate(told) if state & 1])
        return Decision(self, refused, tuple([place for place, state in enumerate(told) if state & 2]), now)

    def __len__(self) -> int:
        return len(self._sheet.rows)

    def figures(self, count: int) -> tuple[Sequence[int], Sequence[float]]:
        """As the stores' contract says."""
        numbers, rows = self._numbers, self._sheet.rows[:count]
        return [numbers[4 * row + 1] for row in rows], self._sheet.resets(tuple([numbers[4 * row + 2] for row in rows]))

    @overload
    def __getitem__(self, place: int) -> Standing: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Standing]: ...
    def __getitem__(self, place: int | slice) -> Standing | Sequence[Standing]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        row = 4 * self._sheet.rows[place]
        return standing(self._sheet.limits[place], *self._numbers[row + 1 : row + 4])


def standing(limit: Limit, used: int, resets: int, room_in: int) -> Standing:
    """A standing from a script's numbers."""
    return Standing(limit, used, _seconds(resets), _seconds(room_in))


def _seconds(milliseconds: int) -> float:
    return math.inf if milliseconds < 0 else milliseconds / 1000


def state_key(prefix: str, subject: str) -> str:
    """The key of a subject's state. It is short, though a subject may hold any text that a client calls a model."""
    if len(subject) > _LONGEST_NAME:
        return f"{prefix}long-limits/{blake2b(subject.encode('utf-8', 'surrogatepass'), digest_size=20).hexdigest()}"
    return f"{prefix}limits/{subject}"


def name_of(limit: Limit) -> str:
    """What a limit is called in the state of its subject."""
    return f"{limit.unit}/{limit.span}"


def within(amount: int) -> int:
    """``amount``, or what a script can count."""
    return amount if 0 <= amount <= _MOST else max(0, min(_MOST, amount))


def _term(limit: Limit, hour: int) -> _Term:
    """A limit as ``counting.lua`` says."""
    most, held = within(limit.amount), int(limit.held)
    if isinstance(limit.span, str):
        begins, ends = _period(limit.span, hour)
        return name_of(limit), most, -1, begins, ends, held
    span = 0 if limit.unit == "concurrency" else limit.span * 1000
    return name_of(limit), most, span, 0, 0, held


@lru_cache(maxsize=16)
def _period(span: Period, hour: int) -> tuple[int, int]:
    """Begin in seconds and end in milliseconds of the period in which an hour of unix time is; all begin with one."""
    begins, ends = period(span, hour * _HOUR)
    return int(begins), -1 if ends == math.inf else int(ends * 1000)
