"""What counts of limits, within one transaction of a database: read once, decided on for many calls, written once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection

from gatewaykit.limiting import statements
from gatewaykit.limiting.backend import Charge, Decision
from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing

_LONGEST = 200
_MOST = 2**53
"""What is counted at once at most: a provider may claim any usage, and sums must fit into 64 bits."""

Row: TypeAlias = dict[str, Any]


class Reservation(Struct):
    """A call that asks for its ``charges``."""

    hold: str
    charges: Sequence[Charge]


class Settlement(Struct):
    """What a call really used of what it holds."""

    hold: str
    charges: Sequence[Charge]


class Sums:
    """What counts at ``now``, in unix time, of the limits that were read. Holds live for ``lease`` seconds.

    Settlements come first, then :meth:`read`, then reservations, and :meth:`write` at the end: so all processes touch
    rows in one order, and none waits for another in a circle.
    """

    def __init__(self, now: float, lease: float) -> None:
        self._now = now
        self._expires = now + lease
        self._rows: dict[tuple[str, str, int], Row] = {}
        self._counts: dict[str, Count] = {}

    def settle(self, connection: Connection, settlements: Iterable[Settlement]) -> None:
        """End what is held, where it still counts, and count what was really used."""
        real: dict[tuple[str, str], int | None] = {}
        for settlement in settlements:
            hold = stored(settlement.hold)
            for charge in settlement.charges:
                amount = None if charge.limit.unit == "concurrency" else charge.amount
                real.setdefault((stored(charge.limit.key), hold), amount)
        if not real:
            return
        ending = statements.releasing(connection.dialect.name)
        for limit, hold, number, until in connection.execute(ending, {"pairs": list(real), "now": self._now}).all():
            amount = real[limit, hold]
            if amount is not None:
                self._add(settled_row(limit, number, amount, until))

    def read(self, connection: Connection, limits: Sequence[str]) -> None:
        """Find out what counts of ``limits``, with what was just settled."""
        self._counts = {limit: Count() for limit in limits}
        if not limits:
            return
        found = [
            (row["limit"], row["until"], row["amount"]) for row in self._rows.values() if row["limit"] in self._counts
        ]
        found += [tuple(row) for row in connection.execute(statements.COUNTS, {"limits": limits, "now": self._now})]
        for limit, until, amount in sorted(found, key=lambda row: row[1]):
            self._counts[limit].add(until, amount)

    def reserve(self, reservation: Reservation) -> Decision:
        """Take all or nothing."""
        now = self._now
        told = [(charge.limit, self._counts[stored(charge.limit.key)], charge.amount) for charge in reservation.charges]
        refused = tuple(
            place for place, (limit, count, amount) in enumerate(told) if count.used + amount > limit.amount
        )
        unseeded = tuple(place for place, (limit, count, _) in enumerate(told) if not count.seeds(limit))
        if refused or unseeded:
            standings = tuple(count.standing(limit, amount, now) for limit, count, amount in told)
            return Decision(standings, refused, unseeded)
        held = {"hold": stored(reservation.hold), "expires": self._expires}
        for limit, count, amount in told:
            row = count.take(limit, amount, now)
            self._add(row | held if limit.held else row)
        return Decision(tuple(count.standing(limit, 0, now) for limit, count, _ in told))

    def standing(self, limit: Limit) -> Standing:
        """How ``limit`` stands."""
        return self._counts[stored(limit.key)].standing(limit, 0, self._now)

    def write(self, connection: Connection) -> None:
        """Write what has changed, in the same order as everybody else does."""
        if self._rows:
            rows = [self._rows[key] for key in sorted(self._rows)]
            connection.execute(statements.adding(connection.dialect.name), rows)

    def _add(self, row: Row) -> None:
        key = row["limit"], row["hold"], row["number"]
        known = self._rows.setdefault(key, row)
        if known is not row:
            known["amount"] += row["amount"]


class Count:
    """What counts of a limit: amounts by the unix time until which they do, earliest first; ``used`` is their sum."""

    __slots__ = ("_amounts", "used")

    def __init__(self) -> None:
        self._amounts: dict[float, int] = {}
        self.used = 0

    def seeds(self, limit: Limit) -> bool:
        """Whether the period of ``limit`` has begun to be counted."""
        return bool(self._amounts) or not isinstance(limit.span, str)

    def add(self, until: float, amount: int) -> None:
        """Let ``amount`` count until ``until``."""
        self._amounts[until] = self._amounts.get(until, 0) + amount
        self.used += amount

    def take(self, limit: Limit, amount: int, now: float) -> Row:
        """Count ``amount`` now; the row that says so."""
        number, until = _slice(limit, now)
        self.add(until, amount)
        return settled_row(stored(limit.key), number, amount, until)

    def standing(self, limit: Limit, asked: int, now: float) -> Standing:
        """How the limit stands."""
        return standing(limit, self._amounts, self.used, asked, now)


def settled_row(limit: str, number: int, amount: int, until: float) -> Row:
    """A row of what is counted for good."""
    amount = min(amount, _MOST)
    return {"limit": limit, "hold": "", "number": number, "amount": amount, "until": until, "expires": until}


def stored(name: str) -> str:
    """``name`` as the database keeps it: one that is too long for an index, or no plain text, as its digest."""
    if len(name) <= _LONGEST and name.isascii() and name.isprintable():
        return name
    return f"digest:{digest(name, 32).hex()}"


def digest(name: str, size: int) -> bytes:
    """So many bytes that stand for ``name``, which may be any text."""
    return blake2b(name.encode(errors="surrogatepass"), digest_size=size).digest()


def _slice(limit: Limit, now: float) -> tuple[int, float]:
    """The number of the slice in which a charge counts now, and its end."""
    if limit.unit == "concurrency":
        return 0, math.inf
    found = slicing(limit.span, now)
    return found.current, found.leaves(found.current)
