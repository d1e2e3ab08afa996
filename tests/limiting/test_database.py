"""Counting in a database that several processes share, and that fails."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, func, insert, make_url, select

from gatewaykit.errors import Unavailable
from gatewaykit.limiting import Charge
from gatewaykit.limiting.database import DatabaseBackend
from gatewaykit.limiting.statements import TIDY_ROWS
from gatewaykit.limits import Limit, Unit
from gatewaykit.storage import Storage
from gatewaykit.storage.tables import StoredHold, StoredSum

from ..storage.conftest import start, storage_at
from .conftest import LEASE, Clock, seed

PATIENT = {"timeout": 60.0, "busy_timeout": 30.0, "queue_size": 1000}
PROGRAM = """
import asyncio, sys
from gatewaykit.limiting import Charge
from gatewaykit.limiting.database import DatabaseBackend
from gatewaykit.limits import Limit
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage

async def main(url, name):
    async with (storage := Storage(DatabaseSettings(url=url, timeout=60, busy_timeout=30))).lifespan():
        backend = DatabaseBackend(storage, lease=600)
        print("ready", flush=True)
        sys.stdin.readline()
        await work(backend, name)

{work}

asyncio.run(main(*sys.argv[1:]))
"""
ALL_AT_ONCE = """
async def work(backend, name):
    charges = [Charge(Limit("all", "requests", 100), 1)]
    decisions = await asyncio.gather(*(backend.reserve(f"{name}-{number}", charges) for number in range(100)))
    print(sum(decision.taken for decision in decisions))
"""
ONE_AFTER_ANOTHER = """
async def work(backend, name):
    requests, tokens = Limit("all", "requests", 10_000), Limit("all", "tokens", 100_000)
    for number in range(50):
        decision = await backend.reserve(f"{name}-{number}", [Charge(requests, 1), Charge(tokens, 100)])
        await backend.settle(f"{name}-{number}", [Charge(tokens, 7)])
    print("done")
"""
UNTIL_KILLED = """
async def work(backend, name):
    limits = [Limit("key:a", "concurrency", 100, 0), Limit("key:a", "tokens", 10_000, 86_400)]
    for number in range(20):
        assert (await backend.reserve(f"{name}-{number}", [Charge(limit, 1) for limit in limits])).taken
    print("held", flush=True)
    busy = Charge(Limit("key:b", "tokens", 10**9), 1)
    for number in range(10**9):
        await asyncio.gather(*(backend.reserve(f"{name}-{number}-{part}", [busy]) for part in range(4)))
"""

Process = subprocess.Popen[str]


@contextmanager
def processes(work: str, url: str, number: int) -> Iterator[list[Process]]:
    """Processes that do ``work`` at the same time; none is left behind."""
    running = [start(PROGRAM.replace("{work}", work), url, f"process{one}") for one in range(number)]
    try:
        for process in running:
            assert read(process) == "ready"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate(timeout=30)


def read(process: Process) -> str:
    """The next line that a process prints, or what it died of."""
    assert process.stdout is not None
    return process.stdout.readline().strip() or process.communicate(timeout=30)[1]


def rows(storage: Storage, table: type[StoredHold | StoredSum] = StoredSum) -> int:
    """How many rows there are."""
    with storage.transaction(write=False) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


# Many at once


async def test_a_budget_for_fifty_calls_pays_for_fifty(url: str) -> None:
    """Of 200 concurrent callers on a budget for exactly 50 calls, 50 are served, and the budget is used up."""
    budget = Limit("key:a", "money", 500, "month")
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backend = DatabaseBackend(storage)

        async def call(number: int) -> bool:
            taken = (await backend.reserve(f"h{number}", [Charge(budget, 10)])).taken
            if taken:
                await backend.settle(f"h{number}", [Charge(budget, 10)])
            return taken

        await seed(backend, budget, 0, time.time())
        assert sum(await asyncio.gather(*(call(number) for number in range(200)))) == 50
        (standing,) = await backend.standings([budget])
        assert (standing.used, standing.remaining) == (500, 0)


async def test_callers_at_the_same_time_share_transactions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred calls that come at once, under limits of their own and shared ones, take a few transactions in all."""
    limit = Limit("all", "tokens", 10**6, 3600)
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backend, write = DatabaseBackend(storage), storage.write
        transactions = []

        async def counted(work: Any, **how: Any) -> Any:
            transactions.append(work)
            return await write(work, **how)

        async def call(number: int) -> None:
            own = Limit(f"key:{number}", "tokens", 100, 60)
            decision = await backend.reserve(f"h{number}", [Charge(own, 9), Charge(limit, 9)])
            assert decision.taken
            assert decision.standings[0].used == 9
            await backend.settle(f"h{number}", [Charge(own, 5), Charge(limit, 5)])

        monkeypatch.setattr(storage, "write", counted)
        await asyncio.gather(*(call(number) for number in range(100)))
        assert len(transactions) < 10
        assert [standing.used for standing in await backend.standings([limit])] == [500]


async def test_what_counts_does_not_wait_for_the_disk(sqlite_storage: Storage) -> None:
    """Hundreds of commits a second that are worth nothing after a loss of power: no one is forced to the disk."""
    backend, forced = DatabaseBackend(sqlite_storage), []

    def note(connection: Connection) -> None:
        forced.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    budget, calls = Limit("key:power", "money", 500, "month"), Limit("key:power", "concurrency", 5, 0)
    charges = [Charge(budget, 10), Charge(calls, 1)]
    event.listen(Engine, "commit", note)
    try:
        await seed(backend, budget, 0, time.time())
        await backend.reserve("power", charges)
        await backend.renew({"power": [calls]})
        await backend.settle("power", charges)
    finally:
        event.remove(Engine, "commit", note)
    assert forced == [1, 1, 1, 1]


async def test_cancelled_callers_hold_nothing(url: str) -> None:
    """Of 200 callers that go away while they reserve, none holds anything once those who stayed have settled."""
    limits = [Limit("key:a", "concurrency", 1000, 0), Limit("key:a", "tokens", 10**6, 60)]
    charges = [Charge(limit, 1) for limit in limits]
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backend = DatabaseBackend(storage)
        tasks = [asyncio.create_task(backend.reserve(f"h{number}", charges)) for number in range(200)]
        for number, task in enumerate(tasks):
            await asyncio.sleep(0.001 if number % 9 == 0 else 0)
            if number % 4:
                task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for number, one in enumerate(found):
            if not isinstance(one, BaseException):
                await backend.settle(f"h{number}", charges)
        settled = sum(not isinstance(one, BaseException) for one in found)
        assert settled >= 50
        assert [standing.used for standing in await backend.standings(limits)] == [0, settled]


async def test_who_leaves_costs_the_others_no_transaction(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of callers who are decided on together and one of whom leaves meanwhile, the others have their answers by that
    very transaction. The next gives back what the one would hold, and its request stays counted.
    """
    limits = [Limit("all", "requests", 100), Limit("all", "concurrency", 100, 0), Limit("all", "tokens", 100)]
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backend, write = DatabaseBackend(storage), storage.write
        begun, transactions = asyncio.Event(), []

        async def noted(work: Any, **how: Any) -> Any:
            transactions.append(work)
            begun.set()
            return await write(work, **how)

        monkeypatch.setattr(storage, "write", noted)
        with storage_at(url).opened() as other, other.transaction() as session:
            DatabaseBackend(other)._lock(session.connection(), limits)
            tasks = [
                asyncio.create_task(backend.reserve(f"h{number}", [Charge(limit, 1) for limit in limits]))
                for number in range(5)
            ]
            await begun.wait()
            tasks[1].cancel()
            assert await asyncio.wait([tasks[1]]) == ({tasks[1]}, set())
        stayed = await asyncio.gather(*tasks[:1], *tasks[2:])
        assert [decision.taken for decision in stayed] == [True] * 4
        assert len(transactions) == 2
        await backend.settle("h0", [Charge(limit, 1) for limit in limits if limit.held])
        assert [standing.used for standing in await backend.standings(limits)] == [5, 3, 4]


@pytest.mark.parametrize("heard", [False, True])
async def test_who_leaves_just_after_the_commit_holds_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    """Neither who is cancelled before the answer is passed on, nor who is before it takes it."""
    limits = [Limit("all", "requests", 100), Limit("all", "concurrency", 100, 0), Limit("all", "tokens", 100)]
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backend, write = DatabaseBackend(storage), storage.write

        async def cancelling(work: Any, **how: Any) -> Any:
            results = await write(work, **how)
            if heard:
                asyncio.get_running_loop().call_soon(task.cancel)
            else:
                task.cancel()
            return results

        monkeypatch.setattr(storage, "write", cancelling)
        task = asyncio.create_task(backend.reserve("h", [Charge(limit, 1) for limit in limits]))
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.settle("another", [Charge(limits[1], 0)])
        assert [standing.used for standing in await backend.standings(limits)] == [1, 0, 0]


async def test_of_settlements_that_go_together_the_first_counts(url: str) -> None:
    """A hold that is settled twice in one transaction settles as if in two."""
    limit = Limit("all", "tokens", 1000)
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backend = DatabaseBackend(storage)
        await backend.reserve("h", [Charge(limit, 100)])
        await asyncio.gather(*(backend.settle("h", [Charge(limit, amount)]) for amount in (70, 0, 90)))
        assert [standing.used for standing in await backend.standings([limit])] == [70]


def test_a_rate_of_a_hundred_holds_for_three_processes(url: str) -> None:
    """Of 300 parallel calls in three processes at 100 requests a minute, exactly 100 pass."""
    with processes(ALL_AT_ONCE, url, 3) as running:
        assert sum(int(read(process)) for process in running) == 100


def test_eight_processes_that_read_and_then_write_wait_for_each_other(url: str) -> None:
    """Nobody is told that the database is locked, and no call is lost or counted twice."""
    limits = [Limit("all", "requests", 10_000), Limit("all", "tokens", 100_000)]
    with processes(ONE_AFTER_ANOTHER, url, 8) as running:
        assert [read(process) for process in running] == ["done"] * 8
    with storage_at(url).opened() as storage:
        standings = asyncio.run(DatabaseBackend(storage).standings(limits))
    assert [standing.used for standing in standings] == [400, 2800]


async def test_limits_in_any_order_do_not_lock_each_other_out(url: str) -> None:
    """Calls that name the same limits in different orders, settle and renew, all end, and their sums are right."""
    units: list[tuple[Unit, int]] = [
        ("requests", 60),
        ("tokens", 60),
        ("tokens", 3600),
        ("money", 3600),
        ("concurrency", 0),
    ]
    limits = [Limit(subject, unit, 10**6, span) for subject in ("all", "key:a") for unit, span in units]
    order = random.Random(7)
    async with (storage := storage_at(url, **PATIENT)).lifespan():
        backends = [DatabaseBackend(storage) for _ in range(3)]

        async def call(number: int) -> None:
            backend, hold = backends[number % 3], f"h{number}"
            mine = order.sample(limits, 6)
            held = [limit for limit in mine if limit.held]
            assert (await backend.reserve(hold, [Charge(limit, 3) for limit in mine])).taken
            order.shuffle(held)
            settling = backend.settle(hold, [Charge(limit, 2) for limit in held])
            await asyncio.gather(backend.renew({f"h{other}": held for other in range(number)}), settling)
            for limit in mine:
                expected[limit] += {"requests": 3, "concurrency": 0}.get(limit.unit, 2)

        expected = dict.fromkeys(limits, 0)
        await asyncio.gather(*(call(number) for number in range(60)))
        assert [standing.used for standing in await backends[0].standings(limits)] == list(expected.values())


# What is left behind


async def test_a_killed_process_holds_nothing_beyond_its_lease(url: str) -> None:
    """After SIGKILL under load its holds count until their lease ends and no longer, and the database is sound."""
    limits = [Limit("key:a", "concurrency", 100, 0), Limit("key:a", "tokens", 10_000, 86_400)]
    with processes(UNTIL_KILLED, url, 1) as (process,):
        assert read(process) == "held"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    clock = Clock(time.time())
    async with (storage := storage_at(url)).lifespan():
        backend = DatabaseBackend(storage, clock=clock)
        assert [standing.used for standing in await backend.standings(limits)] == [20, 20]
        clock.advance(600)
        assert [standing.used for standing in await backend.standings(limits)] == [0, 0]
        decision = await backend.reserve("next", [Charge(limits[0], 100)])
        assert decision.taken
        assert rows(storage, StoredHold) == 1
    if url.startswith("sqlite:///"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


async def test_rows_that_count_no_more_are_deleted_in_passing(url: str, clock: Clock) -> None:
    """Each decision deletes a bounded number of rows until all that have expired are gone, and none of the others."""
    old = {"amount": 1, "until": clock.now, "expires": clock.now}
    limit = Limit("key:a", "requests", 100)
    async with (storage := storage_at(url)).lifespan():
        with storage.transaction() as session:
            numbers = range(TIDY_ROWS * 2 + 100)
            session.execute(insert(StoredSum), [{**old, "limit": "gone", "number": number} for number in numbers])
        backend = DatabaseBackend(storage, clock=clock)
        left = []
        for _ in range(4):
            await backend.reserve("h", [Charge(limit, 1)])
            left.append(rows(storage) - 1)
        assert left == [TIDY_ROWS + 100, 100, 0, 0]
        assert [standing.used for standing in await backend.standings([limit])] == [4]


async def test_what_is_no_hold_is_in_nobody_s_way(url: str, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A row that nobody can read is deleted when its lease has ended, with one line in the log; calls pass."""
    limit = Limit("key:a", "concurrency", 2, 0)
    async with (storage := storage_at(url)).lifespan():
        with storage.transaction() as session:
            for number, taken in enumerate(("no JSON", '[["key:a/concurrency/0", "?", 1, null]]', "{}")):
                row = {"hold": f"h{number}", "expires": clock.now, "taken": taken}
                session.execute(insert(StoredHold), [row])
        backend = DatabaseBackend(storage, clock=clock)
        for number in range(2):
            assert (await backend.reserve(f"ours{number}", [Charge(limit, 1)])).taken
        assert rows(storage, StoredHold) == 2
    assert [record.levelname for record in caplog.records if "cannot be read" in record.message] == ["ERROR"] * 3


# The clock


async def test_postgres_tells_the_time(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where machines share a database, their own clocks are not asked."""
    monkeypatch.setattr("gatewaykit.limiting.database.time", SimpleNamespace())
    limits = [Limit("key:a", "tokens", 10), Limit("key:a", "money", 10, "month")]
    async with (storage := storage_at(postgres_url)).lifespan():
        backend = DatabaseBackend(storage, lease=LEASE)
        await seed(backend, limits[1], 0, time.time())
        decision = await backend.reserve("h", [Charge(limit, 5) for limit in limits])
        assert 60 < decision.standings[0].resets <= 65
        await backend.renew({"h": limits})
        with storage.transaction(write=False) as session:
            ends = session.scalar(select(func.max(StoredHold.expires)).where(StoredHold.hold == "h"))
        assert ends is not None
        assert abs(ends - LEASE - time.time()) < 30
        await backend.settle("h", [Charge(limit, 6) for limit in limits])
        assert [standing.used for standing in await backend.standings(limits)] == [6, 6]


# A database that fails


Action = Callable[[DatabaseBackend], Awaitable[object]]
LIMIT = Limit("key:a", "money", 10, "month")
ACTIONS: dict[str, Action] = {
    "reserve": lambda backend: backend.reserve("h", [Charge(LIMIT, 1)]),
    "settle": lambda backend: backend.settle("h", [Charge(LIMIT, 1)]),
    "renew": lambda backend: backend.renew({"h": [LIMIT]}),
    "seed": lambda backend: seed(backend, LIMIT, 0, time.time()),
}


@contextmanager
def out_of_reach(url: str) -> Iterator[None]:
    """A Postgres database that ends its connections and takes no new ones."""
    name = make_url(url).database or ""
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextmanager
def locked(url: str) -> Iterator[None]:
    """An SQLite file that somebody else does not let go of."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_database_that_is_gone_is_told_and_found_again(url: str, action: str) -> None:
    """While it is gone every caller is told so, with a time to come back, and none waits for ever; then all works."""
    gone = locked if url.startswith("sqlite") else out_of_reach
    async with (storage := storage_at(url, timeout=5.0, busy_timeout=0.1)).lifespan():
        backend = DatabaseBackend(storage)
        await ACTIONS[action](backend)
        with gone(url):
            async with asyncio.timeout(30):
                results = await asyncio.gather(*(ACTIONS[action](backend) for _ in range(10)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 10
        assert all(isinstance(result, Unavailable) and result.retry_after for result in results)
        await ACTIONS[action](backend)


async def test_a_storage_that_is_closed_is_unavailable(sqlite_url: str) -> None:
    """Before it is opened and after it is closed there is nothing to count in."""
    backend = DatabaseBackend(storage_at(sqlite_url))
    for action in ACTIONS.values():
        with pytest.raises(Unavailable):
            await action(backend)
