"""Counting in the gateway's database: exact for all processes that use it, on SQLite and on Postgres.

What is settled and what is held are rows of one table, and both count until their slice of time, or the lease, has
ended: the holds of a process that dies need nobody to end them. Rows that count no more are deleted in passing.

SQLite has one writing transaction at a time. On Postgres a reservation locks its limits, always in the same order;
what settles or renews only changes what is its own, and adds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from gatewaykit.limiting import statements
from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.memory import LEASE
from gatewaykit.limiting.standing import standing
from gatewaykit.limits import Limit, Standing, slicing
from gatewaykit.storage import Storage

TIDY_EVERY = 5.0
"""Seconds between two deletions of what has expired, by one process; less while there is much of it."""

_LONGEST = 200
_MOST = 2**53
"""What is counted at once at most: a provider may claim any usage, and sums must fit into 64 bits."""

_Row = dict[str, Any]


class DatabaseBackend(Backend):
    """Counts in ``storage``, which is open. ``clock`` is unix time.

    Without a ``clock`` Postgres tells the time, for machines' clocks differ, and SQLite's time is this machine's.
    """

    instant = False

    def __init__(self, storage: Storage, *, lease: float = LEASE, clock: Callable[[], float] | None = None) -> None:
        self.lease = lease
        self._storage = storage
        self._clock = clock
        self._tidy_at = 0.0

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing, in one transaction."""
        if not charges:
            return Decision(())
        return await self._storage.write(lambda session: self._reserve(session.connection(), hold, charges))

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        if charges:
            await self._storage.write(lambda session: self._settle(session.connection(), hold, charges))

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on."""
        pairs = sorted((_stored(limit.key), _stored(hold)) for hold, limits in holds.items() for limit in limits)
        if pairs:
            await self._storage.write(lambda session: self._renew(session.connection(), pairs))

    async def seed(self, limit: Limit, used: int) -> None:
        """Begin a calendar period with what was used in it before."""
        if isinstance(limit.span, str):
            await self._storage.write(lambda session: self._seed(session.connection(), limit, used))

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand."""

        def work(session: Session) -> tuple[Standing, ...]:
            connection = session.connection()
            now = self._now(connection)
            return tuple(count.standing(0, now) for count in _counts(connection, limits, now))

        return await self._storage.read(work) if limits else ()

    # In a transaction

    def _reserve(self, connection: Connection, hold: str, charges: Sequence[Charge]) -> Decision:
        limits = [charge.limit for charge in charges]
        now = self._lock(connection, limits)
        counts = _counts(connection, limits, now)
        pairs = list(zip(counts, (charge.amount for charge in charges), strict=True))
        refused = tuple(place for place, (count, amount) in enumerate(pairs) if not count.fits(amount))
        unseeded = tuple(place for place, count in enumerate(counts) if not count.seeded)
        if refused or unseeded:
            return Decision(tuple(count.standing(amount, now) for count, amount in pairs), refused, unseeded)
        held = {"hold": _stored(hold), "expires": now + self.lease}
        rows = [count.take(amount, now) for count, amount in pairs]
        _add(connection, [row | held if limit.held else row for row, limit in zip(rows, limits, strict=True)])
        self._tidy(connection, now)
        return Decision(tuple(count.standing(0, now) for count in counts))

    def _settle(self, connection: Connection, hold: str, charges: Sequence[Charge]) -> None:
        now = self._now(connection)
        amounts = {_stored(charge.limit.key): charge.amount for charge in charges if charge.limit.unit != "concurrency"}
        limits = [_stored(charge.limit.key) for charge in charges]
        ended = connection.execute(statements.RELEASE, {"hold": _stored(hold), "limits": limits, "now": now}).all()
        _add(
            connection,
            [_row(limit, number, amounts[limit], until) for limit, number, until in ended if limit in amounts],
        )

    def _renew(self, connection: Connection, pairs: Sequence[tuple[str, str]]) -> None:
        now = self._now(connection)
        times = {"now": now, "ends": now + self.lease}
        connection.execute(statements.RENEW, [{"of_limit": limit, "of_hold": hold, **times} for limit, hold in pairs])

    def _seed(self, connection: Connection, limit: Limit, used: int) -> None:
        row = _Count(limit).take(used, self._now(connection))
        connection.execute(statements.seeding(connection.dialect.name), row)

    def _lock(self, connection: Connection, limits: Sequence[Limit]) -> float:
        """Let nobody else decide on ``limits`` until the transaction ends; the time, after waiting for that."""
        if connection.dialect.name != "postgresql":
            return self._now(connection)
        numbers = sorted(_number(limit.key) for limit in limits)
        told: float = connection.execute(statements.LOCK, {"numbers": numbers}).all()[-1][1]
        return told if self._clock is None else self._clock()

    def _now(self, connection: Connection) -> float:
        if self._clock is not None:
            return self._clock()
        if connection.dialect.name == "postgresql":
            return float(connection.execute(statements.TIME).scalar_one())
        return time.time()

    def _tidy(self, connection: Connection, now: float) -> None:
        """Delete some of what counts no more. Nothing is waited for after it: others may wait for these rows."""
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_EVERY
        if len(connection.execute(statements.TIDY, {"now": now}).all()) >= statements.TIDY_ROWS:
            self._tidy_at = now


class _Count:
    """What counts of a limit: amounts by the unix time until which they do, earliest first."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._amounts: dict[float, int] = {}
        self._used = 0

    @property
    def seeded(self) -> bool:
        """Whether its period has begun to be counted."""
        return bool(self._amounts) or not isinstance(self._limit.span, str)

    def fits(self, amount: int) -> bool:
        """Whether there is room for ``amount``."""
        return self._used + amount <= self._limit.amount

    def count(self, until: float, amount: int) -> None:
        """Let ``amount`` count until ``until``."""
        self._amounts[until] = self._amounts.get(until, 0) + amount
        self._used += amount

    def take(self, amount: int, now: float) -> _Row:
        """Count ``amount`` now; the row that says so."""
        number, until = _slice(self._limit, now)
        self.count(until, amount)
        return _row(_stored(self._limit.key), number, amount, until)

    def standing(self, asked: int, now: float) -> Standing:
        """How the limit stands."""
        return standing(self._limit, self._amounts, self._used, asked, now)


def _counts(connection: Connection, limits: Sequence[Limit], now: float) -> list[_Count]:
    counts = {_stored(limit.key): _Count(limit) for limit in limits}
    if counts:
        rows = connection.execute(statements.COUNTS, {"limits": list(counts), "now": now}).all()
        for name, until, amount in sorted(rows, key=lambda row: row[1]):
            counts[name].count(until, amount)
    return [counts[_stored(limit.key)] for limit in limits]


def _add(connection: Connection, rows: list[_Row]) -> None:
    """Add rows, in the same order as everybody else does."""
    if rows:
        rows.sort(key=lambda row: (row["limit"], row["hold"], row["number"]))
        connection.execute(statements.adding(connection.dialect.name), rows)


def _row(limit: str, number: int, amount: int, until: float) -> _Row:
    """A row of what is counted for good."""
    amount = min(amount, _MOST)
    return {"limit": limit, "hold": "", "number": number, "amount": amount, "until": until, "expires": until}


def _slice(limit: Limit, now: float) -> tuple[int, float]:
    """The number of the slice in which a charge counts now, and its end."""
    if limit.unit == "concurrency":
        return 0, math.inf
    found = slicing(limit.span, now)
    return found.current, found.leaves(found.current)


def _stored(name: str) -> str:
    """``name`` as the database keeps it: one that is too long for an index, or no plain text, as its digest."""
    if len(name) <= _LONGEST and name.isascii() and name.isprintable():
        return name
    return f"digest:{_digest(name, 32).hex()}"


def _number(name: str) -> int:
    """The number by which Postgres locks ``name``. Names that share one wait for each other, and nothing more."""
    return int.from_bytes(_digest(name, 8), signed=True)


def _digest(name: str, size: int) -> bytes:
    return blake2b(name.encode(errors="surrogatepass"), digest_size=size).digest()
