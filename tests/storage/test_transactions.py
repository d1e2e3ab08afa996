"""Work on the database: all or nothing, never on the event loop, and with an end."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gatewaykit import InternalError, Unavailable
from gatewaykit.metrics.names import DATABASE_BUSY
from gatewaykit.storage import Storage, StoredCall, insert_new, store
from gatewaykit.testing.servers import PostgresServer
from gatewaykit.testing.waiting import until, within

from .conftest import storage_at

BEGAN = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
NOTHING = dict.fromkeys(
    [column.name for column in StoredCall.__table__.columns if column.nullable],
)


def row(request_id: str, **values: Any) -> dict[str, Any]:
    """A row of ``call_records``."""
    fixed = {"began": BEGAN, "method": "POST", "path": "/", "dialect": "d", "status": 200, "outcome": "done"}
    return {**NOTHING, **fixed, "request_id": request_id, "stream": False, "attempts": [], "seconds": 0.5, **values}


def put(*ids: str) -> Any:
    """Work that inserts rows with these ids."""
    return lambda session: insert_new(session, StoredCall, [row(one) for one in ids])


def ids(session: Session) -> list[str]:
    return list(session.scalars(select(StoredCall.request_id).order_by(StoredCall.request_id)))


async def test_what_is_written_is_read(storage: Storage) -> None:
    """A transaction is committed when its work returns, and its result is handed back."""
    async with storage.lifespan():
        assert await storage.write(lambda session: put("a", "b")(session) or "done") == "done"
        assert await storage.read(ids) == ["a", "b"]


async def test_work_that_raises_writes_nothing(storage: Storage) -> None:
    """An exception undoes all that the work did, and reaches the caller as it is."""

    def work(session: Session) -> None:
        put("a")(session)
        raise LookupError("no")

    async with storage.lifespan():
        with pytest.raises(LookupError, match="no"):
            await storage.write(work)
        assert await storage.read(ids) == []


async def test_a_conflict_can_be_handled_inside_the_work(storage: Storage) -> None:
    """The work sees the database's own exceptions, and may go on after a savepoint."""

    def work(session: Session) -> str:
        session.add(StoredCall(**row("a")))
        session.flush()
        try:
            with session.begin_nested():
                session.execute(StoredCall.__table__.insert(), [row("a")])
        except IntegrityError:
            return "taken"
        return "free"

    async with storage.lifespan():
        assert await storage.write(work) == "taken"
        assert await storage.read(ids) == ["a"]


async def test_reading_work_cannot_write(storage: Storage) -> None:
    """A statement that writes is refused in a reading transaction, so that it need not wait for the lock."""
    async with storage.lifespan():
        with pytest.raises(Unavailable):
            await storage.read(put("a"))
        assert await storage.read(ids) == []
        await storage.write(put("b"))
        assert await storage.read(ids) == ["b"]


async def test_a_query_has_no_transaction_around_it(url: str) -> None:
    """Each statement sees what others have committed until then; what comes after it has a transaction again."""
    storage = storage_at(url, pool_size=1)

    def twice(connection: Connection) -> list[int]:
        count = select(func.count()).select_from(StoredCall)
        before = connection.scalar(count)
        with storage_at(url).opened() as other, other.transaction() as session:
            put("meanwhile")(session)
        return [before, connection.scalar(count)]

    async with storage.lifespan():
        assert await storage.query(twice) == [0, 1]
        with pytest.raises(LookupError):
            await storage.write(lambda session: [put("undone")(session), {}["no"]])
        with pytest.raises(Unavailable):
            await storage.read(put("refused"))
        await storage.write(put("written"))
        assert await storage.read(ids) == ["meanwhile", "written"]


async def test_a_query_on_sqlite_cannot_write(sqlite_url: str) -> None:
    """There a statement that writes is refused."""
    storage = storage_at(sqlite_url)
    async with storage.lifespan():
        with pytest.raises(Unavailable):
            await storage.query(lambda connection: connection.execute(StoredCall.__table__.insert(), [row("a")]))
        assert await storage.read(ids) == []


async def test_the_event_loop_goes_on_while_the_database_works(storage: Storage) -> None:
    """Blocking work blocks a thread of the pool and nothing else."""
    held, let_go = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        held.set()
        assert let_go.wait(10)

    async with storage.lifespan():
        task = asyncio.create_task(storage.write(work))
        while not held.is_set():
            await asyncio.sleep(0.001)
        assert await storage.read(ids) == []
        let_go.set()
        await task


async def test_a_caller_who_waits_too_long_is_told_and_nothing_is_written(url: str) -> None:
    """After the time limit the answer is 503 with Retry-After, and the work that is still under way is undone."""
    storage = storage_at(url, timeout=0.2)
    let_go, over = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        put("late")(session)
        assert let_go.wait(10)
        over.set()

    async with storage.lifespan():
        with pytest.raises(Unavailable) as raised:
            await storage.write(work)
        assert raised.value.retry_after
        let_go.set()
        assert await asyncio.to_thread(over.wait, 10)
    with storage.opened(), storage.transaction(write=False) as session:
        assert ids(session) == []


async def test_a_caller_who_is_cancelled_leaves_nothing(storage: Storage) -> None:
    """Work whose caller has gone is undone."""
    held, let_go = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        put("orphan")(session)
        held.set()
        assert let_go.wait(10)

    async with storage.lifespan():
        task = asyncio.create_task(storage.write(work))
        assert await asyncio.to_thread(held.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        let_go.set()
    with storage.opened(), storage.transaction(write=False) as session:
        assert ids(session) == []


async def test_more_work_than_there_is_room_for_is_refused_at_once(url: str) -> None:
    """The queue is bounded: what does not fit gets 503 without waiting, and there is room again afterwards."""
    storage = storage_at(url, pool_size=1, queue_size=2)
    let_go = threading.Event()
    async with storage.lifespan():
        tasks = [asyncio.create_task(storage.read(lambda session: let_go.wait(10))) for _ in range(3)]
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="too much work"):
            await storage.read(ids)
        assert time.monotonic() - began < 1
        let_go.set()
        assert await asyncio.gather(*tasks) == [True] * 3
        assert await storage.read(ids) == []


async def test_a_closed_database_is_unavailable(storage: Storage) -> None:
    """Before the start and after the stop there is no database, and it can be opened again."""
    for _ in range(2):
        with pytest.raises(Unavailable):
            await storage.read(ids)
        async with storage.lifespan():
            assert await storage.read(ids) == []


async def test_it_stays_open_until_the_last_user_has_left(storage: Storage) -> None:
    """Several event loops share a gateway, and its database."""
    with storage.opened():
        async with storage.lifespan():
            pass
        assert await storage.read(ids) == []


async def test_a_defect_is_no_outage(storage: Storage) -> None:
    """A statement that is wrong is an internal error, for trying again would not help; its words are not repeated."""
    async with storage.lifespan():
        with pytest.raises(InternalError) as raised:
            await storage.read(lambda session: session.execute(text("SELECT hidden_word FROM nowhere")))
    assert "hidden_word" not in str(raised.value)


async def test_times_come_back_in_utc(storage: Storage) -> None:
    """Whatever zone a moment is given in, UTC comes out, to the microsecond; a time without a zone is refused."""
    moscow = BEGAN.astimezone(timezone(timedelta(hours=3)))
    async with storage.lifespan():
        await storage.write(lambda session: insert_new(session, StoredCall, [row("a", began=moscow)]))
        (found,) = await storage.read(lambda session: session.scalars(select(StoredCall.began)).all())
        assert found == BEGAN
        assert found.tzinfo is UTC
        with pytest.raises(InternalError):
            await storage.write(lambda session: insert_new(session, StoredCall, [row("b", began=datetime(2026, 1, 1))]))


async def test_concurrent_writers_all_succeed(url: str) -> None:
    """Transactions that read and then write wait for one another instead of failing."""
    storage = storage_at(url, pool_size=8)

    def work(session: Session) -> None:
        count = session.scalar(select(func.count()).select_from(StoredCall))
        put(f"{count}-{threading.get_ident()}-{time.monotonic_ns()}")(session)

    async with storage.lifespan():
        await asyncio.gather(*(storage.write(work) for _ in range(100)))
        assert len(await storage.read(ids)) == 100


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_the_server_may_have_another_isolation_by_default(postgres_url: str, level: str) -> None:
    """Of two transactions that change the same row, the second goes on from what the first one has committed."""
    with psycopg.connect(postgres_url) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'".encode())
    storage = storage_at(postgres_url, pool_size=2)
    both_have_read = threading.Barrier(2, timeout=30)

    def work(session: Session) -> None:
        session.scalar(select(StoredCall.status))
        both_have_read.wait()
        session.execute(update(StoredCall).values(status=StoredCall.status + 1))

    async with storage.lifespan():
        await storage.write(put("a"))
        await asyncio.gather(storage.write(work), storage.write(work))
        assert await storage.query(lambda connection: connection.scalar(select(StoredCall.status))) == 202
        await asyncio.gather(storage.write(work), storage.write(work))
        assert await storage.read(lambda session: session.scalar(select(StoredCall.status))) == 204


async def test_connections_that_the_server_closed_are_replaced(postgres_url: str) -> None:
    """After a restart of Postgres nobody notices and nothing has to be restarted."""
    storage = storage_at(postgres_url)
    others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'gatewaykit'"
    async with storage.lifespan():
        await asyncio.gather(*(storage.write(put(str(number))) for number in range(4)))
        with psycopg.connect(postgres_url) as connection:
            connection.execute(others)
        assert await storage.read(ids) == ["0", "1", "2", "3"]


async def test_a_connection_that_breaks_during_the_work_is_an_outage(postgres_url: str) -> None:
    """The caller gets 503, nothing is written, and the next one gets a connection that works."""
    storage = storage_at(postgres_url)

    def work(session: Session) -> None:
        put("a")(session)
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(postgres_url) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        put("b")(session)

    async with storage.lifespan():
        with pytest.raises(Unavailable):
            await storage.write(work)
        assert await storage.read(ids) == []


async def test_closing_does_not_wait_for_a_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for a Postgres that says nothing any more fails when the database is closed, and closing ends."""
    monkeypatch.setattr(store, "_PATIENCE", 0.1)
    server = PostgresServer()
    try:
        storage = storage_at(server.url(server.database()), timeout=300)
        async with within(60, "the database is closed"), storage.lifespan():
            assert await storage.read(ids) == []
            await asyncio.to_thread(server.freeze)
            waiting = asyncio.create_task(storage.read(ids))
            await until(lambda: {reading.metric: reading.value for reading in storage.readings()}[DATABASE_BUSY] == 1)
        with pytest.raises(Unavailable):
            await waiting
        assert "its connections are cut" in caplog.text
    finally:
        server.thaw()
        server.close()
