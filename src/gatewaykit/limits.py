"""Limits: how much of something somebody may use, and over what time.

A limit over seconds slides: time is cut into twelve slices to a span, and the slice of now counts with the twelve
before it. So never more than ``amount`` pass within any span, and what was used comes back at most a twelfth of the
span late. A limit over a calendar period (in UTC) counts from the period's beginning to its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from msgspec import Struct

Unit: TypeAlias = Literal["requests", "tokens", "concurrency", "money"]
"""``concurrency`` is calls at the same time; ``money`` is in millionths of the currency of accounting."""

Period: TypeAlias = Literal["day", "week", "month", "total"]
SLICES = 12
_NAMES: dict[tuple[Unit, int | Period], str] = {
    ("requests", 60): "rpm",
    ("tokens", 60): "tpm",
    ("requests", 86_400): "rpd",
    ("tokens", 86_400): "tpd",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``amount`` of ``unit`` for ``subject`` within ``span``.

    ``subject`` is ``all`` or a kind and a name: ``key:ID``, ``user:ID``, ``model:NAME``. ``span`` is a number of
    seconds or a calendar period; concurrency has none, and 0 stands there.

    Made from these: ``key`` is what a store counts under; the amount is not part of it, so that a new one does not
    forgive what was used. ``name`` is what headers and messages call it (``rpm``, ``tpm``, ``rpd``, ``concurrency``,
    ``budget``), ``whose`` the kind of the subject. ``held`` says that it is reserved before a call and settled after
    it; requests are not: they are counted at once.
    """

    subject: str
    unit: Unit
    amount: int
    span: int | Period = 60
    key: str = field(init=False, repr=False, compare=False)
    name: str = field(init=False, repr=False, compare=False)
    whose: str = field(init=False, repr=False, compare=False)
    held: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (
            ("key", f"{self.subject}/{self.unit}/{self.span}"),
            ("name", _name(self.unit, self.span)),
            ("whose", self.subject.partition(":")[0]),
            ("held", self.unit != "requests"),
        ):
            object.__setattr__(self, name, value)


def _name(unit: Unit, span: int | Period) -> str:
    if unit == "money":
        return "budget"
    if unit == "concurrency":
        return unit
    return _NAMES.get((unit, span), f"{unit}-per-{span}")


class Standing(Struct):
    """How a limit stands. ``used`` includes what is held.

    ``resets`` is in how many seconds nothing of that counts any more (0 for concurrency, infinite for a total).
    ``room_in`` is in how many seconds the amount asked for may fit; infinite if it never can, 0 if it does now.
    """

    limit: Limit
    used: int
    resets: float = 0.0
    room_in: float = 0.0

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, self.limit.amount - self.used)


class Forecast(Struct, frozen=True):
    """What a limit would say to a call that is not made: how it stands, and the ``charge`` that is to fit beside."""

    standing: Standing
    charge: int

    @property
    def fits(self) -> bool:
        """Whether the call would be let in, as far as this limit goes."""
        return self.standing.used + self.charge <= self.standing.limit.amount


class Slicing(Struct, frozen=True):
    """Which slices of a limit count at some moment: numbers ``oldest`` to ``current``, of ``seconds`` each.

    A calendar period is one slice; its number is its first second, and ``ends`` its end in unix time.
    """

    current: int
    oldest: int
    seconds: float
    ends: float

    def leaves(self, number: int) -> float:
        """The unix time at which slice ``number`` counts no more."""
        return (number + SLICES + 1) * self.seconds if self.seconds else self.ends


def slicing(span: int | Period, now: float) -> Slicing:
    """The slices of a limit over ``span`` at ``now``, in unix time."""
    if isinstance(span, str):
        begins, ends = period(span, now)
        return Slicing(int(begins), int(begins), 0, ends)
    seconds = span / SLICES
    current = int(now // seconds)
    return Slicing(current, current - SLICES, seconds, math.inf)


def period(span: Period, now: float) -> tuple[float, float]:
    """Begin and end, in unix time, of the calendar period in which ``now`` is. Weeks begin on Monday."""
    if span == "total":
        return 0.0, math.inf
    day = (_EPOCH + timedelta(seconds=now)).replace(hour=0, minute=0, second=0, microsecond=0)
    if span == "day":
        begins, ends = day, day + timedelta(days=1)
    elif span == "week":
        begins = day - timedelta(days=day.weekday())
        ends = begins + timedelta(days=7)
    else:
        begins = day.replace(day=1)
        ends = (begins + timedelta(days=32)).replace(day=1)
    return begins.timestamp(), ends.timestamp()
