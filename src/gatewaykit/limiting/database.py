"""Counting in the gateway's database: exact for all processes that use it, on SQLite and on Postgres.

What counts is one row for each slice of time of a limit, held amounts included. What a call holds is one row of another
table; once its lease has ended, whoever decides next gives it back: the holds of a process that dies need nobody to end
them. Rows that count no more are deleted in passing.

SQLite has one writing transaction at a time. On Postgres a reservation locks its limits, always in the same order;
what settles or renews only changes what is its own, and adds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from gatewaykit.limiting import statements
from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.memory import LEASE
from gatewaykit.limiting.sums import MOST, Reservation, Settlement, Sums, digest, slice_of, stored
from gatewaykit.limiting.together import Together, Withdrawn
from gatewaykit.limits import Limit, Standing
from gatewaykit.storage import Storage

TIDY_EVERY = 5.0
"""Seconds between two deletions of what has expired, by one process; less while there is much of it."""

T = TypeVar("T")
_Item: TypeAlias = Reservation | Settlement


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
        self._together: Together[_Item] = Together(self._do)

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing. What may be held for a caller that is cancelled is given back with what is done next;
        its requests stay counted.
        """
        if not charges:
            return Decision(())
        try:
            decision: Decision = await self._together.run(Reservation(hold, charges))
        except asyncio.CancelledError:
            if held := [Charge(charge.limit, 0) for charge in charges if charge.limit.held]:
                self._together.leave(Settlement(hold, held))
            raise
        return decision

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held, also where the caller is cancelled."""
        if charges:
            await self._together.see_through(Settlement(hold, charges))

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on."""
        limits = {stored(limit.key) for limits in holds.values() for limit in limits if limit.unit == "concurrency"}
        names = sorted(map(stored, holds))
        if names:
            await self._write(lambda session: self._renew(session.connection(), names, sorted(limits)))

    async def seed(self, limit: Limit, used: int, begins: float) -> None:
        """Begin a calendar period with what was used in it before."""
        if isinstance(limit.span, str):
            await self._write(lambda session: self._seed(session.connection(), limit, used, begins))

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand."""

        def work(session: Session) -> tuple[Standing, ...]:
            connection = session.connection()
            sums = Sums(connection, self._now(connection), self.lease)
            sums.overlook()
            sums.read([stored(limit.key) for limit in limits])
            return tuple(sums.standing(limit) for limit in limits)

        return await self._storage.read(work) if limits else ()

    async def _write(self, work: Callable[[Session], T]) -> T:
        """Hundreds of times a second, of what is worth nothing after a loss of power."""
        return await self._storage.write(work, forced=False)

    # In a transaction

    async def _do(self, items: Sequence[_Item], wanted: Callable[[], bool]) -> Sequence[Decision | None]:
        return await self._write(lambda session: self._decide(session.connection(), items, wanted))

    def _decide(
        self, connection: Connection, items: Sequence[_Item], wanted: Callable[[], bool]
    ) -> Sequence[Decision | None]:
        asked = [item for item in items if isinstance(item, Reservation)]
        limits = {stored(charge.limit.key): charge.limit for item in asked for charge in item.charges}
        now = self._lock(connection, list(limits.values()))
        sums = Sums(connection, now, self.lease)
        sums.settle(item for item in items if isinstance(item, Settlement))
        sums.sweep()
        sums.read(list(limits))
        decisions = [sums.reserve(item) if isinstance(item, Reservation) else None for item in items]
        sums.write()
        if asked:
            self._tidy(connection, now)
        if not wanted():
            raise Withdrawn
        return decisions

    def _renew(self, connection: Connection, holds: Sequence[str], limits: Sequence[str]) -> None:
        now = self._now(connection)
        times = {"now": now, "ends": now + self.lease}
        connection.execute(statements.RENEW, [{"of_hold": hold, **times} for hold in holds])
        if limits:
            connection.execute(statements.KEEP, [{"of_limit": limit, "ends": times["ends"]} for limit in limits])

    def _seed(self, connection: Connection, limit: Limit, used: int, begins: float) -> None:
        number, until = slice_of(limit, self._now(connection))
        if slice_of(limit, begins)[0] != number:
            return
        row = {
            "limit": stored(limit.key),
            "number": number,
            "amount": min(used, MOST),
            "until": until,
            "expires": until,
        }
        connection.execute(statements.seeding(connection.dialect.name), row)

    def _lock(self, connection: Connection, limits: Sequence[Limit]) -> float:
        """Let nobody else decide on ``limits`` until the transaction ends; the time, after waiting for that."""
        if connection.dialect.name != "postgresql" or not limits:
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


def _number(name: str) -> int:
    """The number by which Postgres locks ``name``. Names that share one wait for each other, and nothing more."""
    return int.from_bytes(digest(name, 8), signed=True)
