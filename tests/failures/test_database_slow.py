"""The database hangs: Postgres is stopped in its tracks, or another process holds the lock of SQLite's file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from gatewaykit.builtin.ledger import ledger
from gatewaykit.testing.servers import PostgresServer
from gatewaykit.testing.waiting import within

from .conftest import Log, Opener, Wired, recorded
from .page import Row


async def test_db_slow_key_in_use(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """A key that this process knows is not held up."""
    async with world(postgres_url) as it:
        key = await it.key()
        await it.ask(key)
        await asyncio.to_thread(postgres.freeze)
        row.holds(*await it.ask_times(5, key))
        await asyncio.to_thread(postgres.thaw)


async def test_db_slow_new_key(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """Whoever brings a key that this process has not seen is told to come back before long."""
    async with world(postgres_url, timeouts={"hook": 1}) as it:
        key = await it.key()
        await asyncio.to_thread(postgres.freeze)
        row.holds(*await it.ask_times(2, key))
        row.holds(*await asyncio.gather(*(it.ask(key) for _ in range(10))))
        await asyncio.to_thread(postgres.thaw)
        await it.until_answered(200, lambda: it.ask(key))


async def test_db_slow_key_management(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """It waits for ``database.timeout``, and what was refused has not happened."""
    async with world(postgres_url, database={"timeout": 2}) as it:
        await it.key(name="before")
        await asyncio.to_thread(postgres.freeze)
        row.holds(await it.new_key(name="during"), await it.http.get("/api/admin/keys"))
        await asyncio.to_thread(postgres.thaw)
        listed = await it.until_answered(200, lambda: it.http.get("/api/admin/keys"))
    assert [key["name"] for key in listed.json()["items"]] == ["before"]


async def test_db_slow_at_the_end(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log, tmp_path: Path
) -> None:
    """A gateway that has to stop meanwhile does so; its records wait in the outbox for the next one that starts."""
    outbox = {"outbox": f"{tmp_path}/shared"}
    async with within(60, "the gateway stops"), world(postgres_url, ledger=outbox) as it:
        await asyncio.to_thread(postgres.freeze)
        row.holds(*await it.ask_times(5))
    assert log.lines("the database holds up the end")
    await asyncio.to_thread(postgres.thaw)
    async with world(postgres_url, ledger=outbox), within(60, "the records are written"):
        while recorded(postgres_url) != sorted(it.calls):
            await asyncio.sleep(0.02)


async def test_db_slow_ledger(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """No call waits for the books; afterwards each has one record."""
    async with world(postgres_url) as it:
        await it.ask_times(3)
        await asyncio.to_thread(postgres.freeze)
        row.holds(*await it.ask_times(20))
        await asyncio.to_thread(postgres.thaw)
    assert recorded(postgres_url) == sorted(it.calls)


async def test_db_slow_ledger_connecting(world: Opener, wired: Wired, row: Row, log: Log) -> None:
    """Not even where new connections hang is a record lost."""
    async with world(wired.url, database={"timeout": 2}) as it:
        await it.ask()
        async with asyncio.timeout(60):
            while recorded(wired.direct) != it.calls:
                await asyncio.sleep(0.02)
        wired.wire.hang()
        row.holds(await it.ask())
        await log.until("records of calls are not written yet")
        row.holds(*await it.ask_times(3))
        wired.wire.mend()
    assert recorded(wired.direct) == sorted(it.calls)


async def limits_slow(world: Opener, postgres: PostgresServer, url: str, policy: str, log: Log) -> list[httpx.Response]:
    """Seven calls under a limit of four, with the database frozen after the first; then it goes on and counts again.

    The first five wait; then it is left alone, and nobody does.
    """
    limits = {"store": "database", "on_failure": policy, "each_key": {"rpd": 4}}
    async with world(url, limits=limits, timeouts={"hook": 1}) as it:
        assert (await it.ask()).headers["x-ratelimit-remaining-requests"] == "3"
        await asyncio.to_thread(postgres.freeze)
        answers = await it.ask_times(7)
        assert min(answer.elapsed.total_seconds() for answer in answers[5:]) < 0.8
        await asyncio.to_thread(postgres.thaw)
        assert await it.remaining_when(log, "counts limits again") == "2"
    return answers


async def test_db_slow_limits_local(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """``local``: each process counts for itself, from nothing; so its limits hold."""
    answers = await limits_slow(world, postgres, postgres_url, "local", log)
    row.holds(*answers)
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 3


async def test_db_slow_limits_deny(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """``deny``: no call under a limit passes."""
    row.holds(*await limits_slow(world, postgres, postgres_url, "deny", log))


async def test_db_slow_limits_allow(
    world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log
) -> None:
    """``allow``: every call passes."""
    row.holds(*await limits_slow(world, postgres, postgres_url, "allow", log))


async def test_db_slow_budget_after_restart(
    world: Opener, postgres_url: str, row: Row, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget does not open again because the database is slow to take what was spent before."""
    monkeypatch.setattr(ledger, "_PATIENCE", 0.2)
    prices = {"models": [{"model": "*", "input": 1_000_000, "output": 1_000_000}]}
    given = {"limits": {"each_key": {"budget": 40}}, "prices": prices, "ledger": {"outbox": f"{tmp_path}/shared"}}
    async with world(postgres_url, **given) as it:
        await it.ask()
        with psycopg.connect(postgres_url) as locking:
            locking.execute("LOCK TABLE call_records IN EXCLUSIVE MODE")
            while (await it.ask()).status_code == 200:
                pass
            await it.gateway.stop()
            async with world(postgres_url, **given) as following:
                assert len(log.lines("no budget begins until they are")) == 1
                row.holds(*await following.ask_times(3))
                locking.rollback()
                await following.until_answered(429, following.ask)
    assert set(it.calls) <= set(recorded(postgres_url))


async def test_db_slow_readyz(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row) -> None:
    """The gateway stays in service, and says so at once."""
    async with world(postgres_url) as it:
        await asyncio.to_thread(postgres.freeze)
        row.holds(await it.http.get("/readyz"), await it.http.get("/livez"))
        await asyncio.to_thread(postgres.thaw)


async def test_db_slow_start(world: Opener, postgres: PostgresServer, postgres_url: str, row: Row, log: Log) -> None:
    """It gives up after some seconds, and says why."""
    assert not row.statuses
    await asyncio.to_thread(postgres.freeze)
    with pytest.raises(RuntimeError, match="did not start"):
        async with world(postgres_url, database={"timeout": 1}):
            pass
    await asyncio.to_thread(postgres.thaw)
    assert log.lines("cannot be used: it does not answer in time")


async def test_db_delayed(world: Opener, wired: Wired, row: Row) -> None:
    """Where each answer of the database takes 50 ms everything works, and only what needs it waits."""
    async with world(wired.url) as it:
        key, other = await it.key(), await it.key()
        await it.ask(other)
        wired.wire.delay = 0.05
        row.holds(await it.ask(key), await it.ask(key), await it.ask(other))
        assert (await it.new_key()).status_code == 201
        wired.wire.delay = 0
    assert recorded(wired.direct) == sorted(it.calls)


# SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gatewaykit.db"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else writes, and takes their time."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


async def test_sqlite_locked_new_key(world: Opener, file: Path, row: Row) -> None:
    """Reading goes on beside one who writes: keys are found."""
    async with world(f"sqlite:///{file}") as it:
        key = await it.key()
        with locked(file):
            row.holds(*await it.ask_times(3, key))


async def test_sqlite_locked_key_management(world: Opener, file: Path, row: Row) -> None:
    """A change waits for ``database.busy_timeout``; then it is refused, and has not happened."""
    async with world(f"sqlite:///{file}") as it:
        with locked(file):
            row.holds(await it.new_key())
        assert (await it.http.get("/api/admin/keys")).json()["items"] == []
        assert (await it.new_key()).status_code == 201


async def test_sqlite_locked_ledger(world: Opener, file: Path, row: Row) -> None:
    """Records wait in the outbox; afterwards each call has one."""
    async with world(f"sqlite:///{file}") as it:
        with locked(file):
            row.holds(*await it.ask_times(10))
    with sqlite3.connect(file) as connection:
        found = sorted(found for (found,) in connection.execute("SELECT request_id FROM call_records"))
    connection.close()
    assert found == sorted(it.calls)
