"""What counts of limits, within one transaction of a database: read once, decided on for many calls, written once."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from gatewaykit.limiting import statements
from gatewaykit.limiting.backend import Charge, Decision
from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing

logger = logging.getLogger(__name__)
_LONGEST = 200
MOST = 2**53
"""What is counted at once at most: a provider may claim any usage, and sums must fit into 64 bits."""

Part: TypeAlias = tuple[str, int, int, float | None]
"""What a hold has taken of a limit: its stored name, the number of the slice, the amount, and until when it counts."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Part]).decode


class Reservation(Struct):
    """A call that asks for its ``charges``."""

    hold: str
    charges: Sequence[Charge]


class Settlement(Struct):
    """What a call really used of what it holds."""

    hold: str
    charges: Sequence[Charge]


class Change(Struct):
    """What is added to a slice, which counts ``until`` then; its row is kept until it ``expires``."""

    by: int
    until: float
    expires: float


class Sums:
    """What counts at ``now``, in unix time, of the limits that were read. Holds live for ``lease`` seconds.

    What ends comes first (:meth:`settle`, :meth:`sweep`), then :meth:`read`, then reservations, and :meth:`write` is
    last: so all processes touch rows in one order, and none waits for another in a circle.
    """

    def __init__(self, connection: Connection, now: float, lease: float) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._now = now
        self._lease_ends = now + lease
        self._changes: dict[tuple[str, int], Change] = {}
        self._holds: list[dict[str, Any]] = []
        self._counts: dict[str, Count] = {}

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """End what is held, where it still counts, and count what was really used. Of one hold the first counts."""
        real: dict[str, Sequence[Charge]] = {}
        for settlement in settlements:
            real.setdefault(stored(settlement.hold), settlement.charges)
        if not real:
            return
        given = {"holds": sorted(real), "now": self._now}
        for hold, taken in self._connection.execute(statements.releasing(self._dialect), given).all():
            amounts = {
                stored(charge.limit.key): min(charge.amount, MOST)
                for charge in real[hold]
                if charge.limit.unit != "concurrency"
            }
            self._give_back(taken, amounts)

    def sweep(self) -> None:
        """End the holds whose lease has ended."""
        for _, taken in self._connection.execute(statements.sweeping(self._dialect), {"now": self._now}).all():
            self._give_back(taken, {})

    def overlook(self) -> None:
        """Count as if they had been ended; for those who only read."""
        for (taken,) in self._connection.execute(statements.OVER, {"now": self._now}).all():
            self._give_back(taken, {})

    def _give_back(self, taken: str, real: Mapping[str, int]) -> None:
        try:
            parts = _decode(taken)
        except msgspec.MsgspecError:
            logger.error("what a call holds of its limits cannot be read: it counts to the end of its time")
            return
        for limit, number, amount, until in parts:
            ends = math.inf if until is None else until
            if ends > self._now:
                self._add(limit, number, real.get(limit, 0) - amount, ends)

    def read(self, limits: Sequence[str]) -> None:
        """Find out what counts of ``limits``, with all that has changed here."""
        self._counts = {limit: Count() for limit in limits}
        if not limits:
            return
        given = {"limits": limits, "now": self._now}
        found = {
            (limit, number): (until, amount)
            for limit, number, until, amount in self._connection.execute(statements.SUMS, given)
        }
        for key, change in self._changes.items():
            if key[0] in self._counts:
                found[key] = change.until, max(0, found.get(key, (0.0, 0))[1] + change.by)
        for (limit, _), (until, amount) in sorted(found.items(), key=lambda row: row[1][0]):
            self._counts[limit].add(until, amount)

    def reserve(self, reservation: Reservation) -> Decision:
        """Take all or nothing."""
        now = self._now
        told = [(charge.limit, self._counts[stored(charge.limit.key)], charge.amount) for charge in reservation.charges]
        fits = [count.used + amount <= limit.amount for limit, count, amount in told]
        refused = tuple(place for place, fit in enumerate(fits) if not fit)
        unseeded = tuple(place for place, (limit, count, _) in enumerate(told) if not count.has_begun(limit))
        if refused or unseeded:
            standings = tuple(count.standing(limit, amount, now) for limit, count, amount in told)
            return Decision(standings, refused, unseeded, now)
        held = [part for limit, count, amount in told if (part := self._take(limit, count, amount))]
        if held:
            row = {"hold": stored(reservation.hold), "expires": self._lease_ends, "taken": _encode(held).decode()}
            self._holds.append(row)
        return Decision(tuple(count.standing(limit, 0, now) for limit, count, _ in told), now=now)

    def _take(self, limit: Limit, count: Count, amount: int) -> Part | None:
        """Count ``amount``; what is held of it."""
        number, until = slice_of(limit, self._now)
        name, amount = stored(limit.key), min(amount, MOST)
        count.add(until, amount)
        self._add(name, number, amount, until)
        return (name, number, amount, until) if limit.held else None

    def _add(self, limit: str, number: int, by: int, until: float) -> None:
        known = self._changes.get((limit, number))
        if known is not None:
            known.by += by
        else:
            expires = self._lease_ends if number == statements.AT_THE_SAME_TIME else until
            self._changes[limit, number] = Change(by, until, expires)

    def standing(self, limit: Limit) -> Standing:
        """How ``limit`` stands."""
        return self._counts[stored(limit.key)].standing(limit, 0, self._now)

    def write(self) -> None:
        """Write what has changed."""
        if self._holds:
            self._connection.execute(statements.holding(self._dialect), self._holds)
        if self._changes:
            rows = [
                {"of_limit": limit, "of_number": number, "by": change.by, "ends": change.until, "kept": change.expires}
                for (limit, number), change in sorted(self._changes.items())
            ]
            self._connection.execute(statements.adding(self._dialect), rows)


class Count:
    """What counts of a limit: amounts by the unix time until which they do, earliest first; ``used`` is their sum."""

    __slots__ = ("_amounts", "used")

    def __init__(self) -> None:
        self._amounts: dict[float, int] = {}
        self.used = 0

    def has_begun(self, limit: Limit) -> bool:
        """Whether the period of ``limit`` has begun to be counted."""
        return bool(self._amounts) or not isinstance(limit.span, str)

    def add(self, until: float, amount: int) -> None:
        """Let ``amount`` count until ``until``."""
        self._amounts[until] = self._amounts.get(until, 0) + amount
        self.used += amount

    def standing(self, limit: Limit, asked: int, now: float) -> Standing:
        """How the limit stands."""
        return standing(limit, self._amounts, self.used, asked, now)


def stored(name: str) -> str:
    """``name`` as the database keeps it: one that is too long for an index, or no plain text, as its digest."""
    if len(name) <= _LONGEST and name.isascii() and name.isprintable():
        return name
    return f"digest:{digest(name, 32).hex()}"


def digest(name: str, size: int) -> bytes:
    """So many bytes that stand for ``name``, which may be any text."""
    return blake2b(name.encode(errors="surrogatepass"), digest_size=size).digest()


def slice_of(limit: Limit, now: float) -> tuple[int, float]:
    """The number of the slice in which a charge counts now, and its end."""
    if limit.unit == "concurrency":
        return statements.AT_THE_SAME_TIME, math.inf
    found = slicing(limit.span, now)
    return found.current, found.leaves(found.current)
