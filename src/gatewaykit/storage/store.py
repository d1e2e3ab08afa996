"""The gateway's database: transactions for threads that may wait, and for the event loop, which may not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from gatewaykit.errors import Unavailable
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import DATABASE_BUSY, DATABASE_REFUSED, DATABASE_WAITING, REASON
from gatewaykit.migration import MigrationSource
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage.engine import READING, UNFORCED, WRITING, Database
from gatewaykit.storage.faults import is_locked, translated
from gatewaykit.storage.migrate import Applied, SchemaState, inspect, ordered, upgrade
from gatewaykit.storage.pool import Decision, WorkPool
from gatewaykit.storage.wires import Wires

T = TypeVar("T")
_PATIENCE = 5.0
logger = logging.getLogger(__name__)


class Storage:
    """A database with its migrations.

    ``sources`` are the plugins' migrations; the core's come before them. Constructing it opens nothing: it is open
    while at least one :meth:`lifespan` or :meth:`opened` is entered, and anything but migrating needs it open. Raises
    :class:`~gatewaykit.errors.ConfigError` for a URL that cannot be used.
    """

    def __init__(self, settings: DatabaseSettings, sources: Sequence[MigrationSource] = ()) -> None:
        self._settings = settings
        self._database = Database(settings)
        self._held = ExitStack()
        self.sources = ordered(sources)
        self._turn = threading.Lock()
        self._users = 0
        self._open: _Open | None = None
        self.settled = threading.Event()
        """Set while all spending that was found at the start is in the sums; the ledger says so."""
        self.settled.set()
        self._refused: Counter[str] = Counter()

    @property
    def address(self) -> str:
        """What and where the database is, without user and password."""
        return self._database.address

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None for a server."""
        return self._database.file

    @property
    def database(self) -> Database:
        """The database itself, for those who copy it or put a copy in its place."""
        return self._database

    def __repr__(self) -> str:
        return f"Storage({self.address})"

    # For the event loop

    async def read(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns, which runs in a thread, in a transaction that cannot write.

        Raises :class:`~gatewaykit.errors.Unavailable` when the database is down, too busy or too slow.
        """
        return await self._opened().pool.run(lambda decision: self._work(work, write=False, decision=decision))

    async def query(self, work: Callable[[Connection], T]) -> T:
        """As :meth:`read`, without a transaction: each statement of ``work`` sees the database as it is by then.

        For one statement that reads, while somebody waits for it: Postgres is asked twice, not four times. SQLite
        refuses to write here, Postgres does not.
        """
        return await self._opened().pool.run(lambda _: self._query(work))

    async def write(self, work: Callable[[Session], T], *, forced: bool = True) -> T:
        """As :meth:`read`, in a transaction that may write, and that is committed when ``work`` returns.

        On SQLite there is one such transaction at a time; on Postgres they run side by side (READ COMMITTED), and
        ``work`` locks the rows on which it decides. After :class:`~gatewaykit.errors.Unavailable` nothing is written,
        unless the connection broke during the commit itself.

        Once it is committed, a loss of power cannot undo it. ``forced=False`` is for what is worth nothing after one:
        the commit does not wait for the disk then (SQLite).
        """
        return await self._opened().pool.run(
            lambda decision: self._work(work, write=True, decision=decision, forced=forced)
        )

    # For threads

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Session]:
        """A transaction in this thread, committed at the end of the block. Blocks; not for the event loop's thread."""
        with self._noted(), translated(), self._session(write=write) as session:
            yield session
            if write:
                session.commit()

    def _work(self, work: Callable[[Session], T], *, write: bool, decision: Decision, forced: bool = True) -> T:
        with self._noted(), translated(), self._session(write=write, forced=forced) as session:
            result = work(session)
            if write:
                if not decision.take():
                    raise _closed()
                session.commit()
            return result

    def _query(self, work: Callable[[Connection], T]) -> T:
        with self._noted(), translated(), self._opened().querying.connect() as connection:
            return work(connection)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            cause = error.__context__
            busy = cause is None or (isinstance(cause, Exception) and is_locked(cause))
            self._refused["busy" if busy else "away"] += 1
            raise

    @contextmanager
    def _session(self, *, write: bool, forced: bool = True) -> Iterator[Session]:
        opened = self._opened()
        if not write:
            with Session(opened.reading, expire_on_commit=False) as session:
                yield session
            return
        engine = opened.writing if forced else opened.unforced
        with opened.turn(), Session(engine, expire_on_commit=False) as session:
            yield session

    def readings(self) -> Iterator[Reading]:
        """How the work with the database stands."""
        opened = self._open
        yield Reading(DATABASE_BUSY, opened.pool.busy if opened else 0)
        yield Reading(DATABASE_WAITING, opened.pool.waiting if opened else 0)
        refused = self._refused + opened.pool.refused if opened else self._refused
        for reason in ("full", "timeout", "busy", "away"):
            yield Reading(DATABASE_REFUSED, refused[reason], {REASON: reason})

    # Migrating

    def migrate(self) -> list[Applied]:
        """Bring the schema up to date. Raises :class:`~gatewaykit.errors.StorageError`; then nothing has changed.

        Processes that do this at the same time wait for each other.
        """
        with self._database.in_use():
            return upgrade(self._database, self.sources)

    def check(self) -> list[SchemaState]:
        """How the schema of each source stands; changes nothing."""
        return inspect(self._database, self.sources)

    # Opening

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Migrate and open; close at the end, when everybody else has left too."""
        await asyncio.to_thread(self._enter)
        try:
            yield
        finally:
            await asyncio.to_thread(self._leave)

    @contextmanager
    def opened(self) -> Iterator[Storage]:
        """The same for programs without an event loop."""
        self._enter()
        try:
            yield self
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._turn:
            if self._open is None:
                with ExitStack() as held:
                    held.enter_context(self._database.in_use())
                    self.migrate()
                    self._open = _Open(self._database, self._settings)
                    self._held = held.pop_all()
            self._users += 1

    def _leave(self) -> None:
        with self._turn:
            self._users -= 1
            if self._users == 0 and self._open is not None:
                opened, self._open = self._open, None
                opened.close()
                self._held.close()

    def _opened(self) -> _Open:
        if self._open is None:
            raise _closed()
        return self._open


class _Open:
    """What an open database needs."""

    def __init__(self, database: Database, settings: DatabaseSettings) -> None:
        self._engine = engine = database.engine()
        self._wires = None if database.is_sqlite else Wires(engine)
        self.writing = engine.execution_options(**WRITING)
        self.unforced = engine.execution_options(**UNFORCED)
        self.reading = engine.execution_options(**READING)
        self.querying = database.querying(engine)
        self.pool = WorkPool(settings.pool_size, settings.queue_size, settings.timeout)
        self._writer = threading.Lock() if database.is_sqlite else None
        self._patience = settings.busy_timeout

    @contextmanager
    def turn(self) -> Iterator[None]:
        """On SQLite, which has one writer at a time, the turn of this thread among those of this process.

        Who waits for SQLite's own lock sleeps and looks again, ever longer, and may be overtaken each time.
        """
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=self._patience):
            raise Unavailable(retry_after=1.0, detail="database: other threads of this process are writing")
        try:
            yield
        finally:
            self._writer.release()

    def close(self) -> None:
        """Finish what is under way and close the connections. Blocks, but not for a Postgres that hangs."""
        self.pool.close(_PATIENCE)
        if self._wires is not None and self._wires.busy:
            logger.warning("the database holds up the end: its connections are cut")
            self._wires.cut()
        self.pool.join()
        self._engine.dispose()


def _closed() -> Unavailable:
    return Unavailable(retry_after=1.0, detail="database: it is closed")
