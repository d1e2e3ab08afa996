"""What is peculiar to SQLite: its file, its one lock, and what a crash leaves of it."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from gatewaykit import ConfigError, StorageError, Unavailable
from gatewaykit.storage import Storage

from .conftest import start, storage_at
from .test_transactions import ids, put

PRELUDE = """
import os, sys
from datetime import UTC, datetime
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage, StoredCall, insert_new
from sqlalchemy import func, select
storage = Storage(DatabaseSettings(url=os.environ["URL"], busy_timeout=30))
FIXED = dict.fromkeys(column.name for column in StoredCall.__table__.columns)
FIXED |= dict(began=datetime.now(UTC), method="POST", path="/", dialect="d", status=200, outcome="done")
FIXED |= dict(stream=False, attempts=[], seconds=0.5)
"""
READ_THEN_WRITE = (
    PRELUDE
    + """
with storage.opened():
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(50):
        with storage.transaction() as session:
            count = session.scalar(select(func.count()).select_from(StoredCall))
            insert_new(session, StoredCall, [{**FIXED, "request_id": str(count)}])
"""
)
BATCHES = (
    PRELUDE
    + """
with storage.opened():
    for batch in range(10**6):
        with storage.transaction() as session:
            for part in range(10):
                insert_new(session, StoredCall, [{**FIXED, "request_id": f"{batch}-{part}-{n}"} for n in range(10)])
                if part == 5:
                    print(batch, flush=True)
"""
)


@pytest.fixture
def file(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@contextmanager
def raw(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def test_the_file_is_for_its_owner_alone(sqlite_url: str, file: Path) -> None:
    """The database, its lock and what SQLite puts beside it can be read by nobody else, whatever the umask."""
    storage = storage_at(sqlite_url)
    with storage.opened(), storage.transaction() as session:
        put("a")(session)
        session.flush()
        modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.glob("gatewaykit.db*")}
    names = ("gatewaykit.db", "gatewaykit.db-wal", "gatewaykit.db-shm", "gatewaykit.db-lock")
    assert modes == dict.fromkeys(names, 0o600)


def test_connections_are_set_up_to_be_safe(sqlite_url: str) -> None:
    """Write-ahead logging, waiting for locks and foreign keys are in force on the connections that do the work."""
    storage = storage_at(sqlite_url, busy_timeout=7)
    with storage.opened(), storage.transaction() as session:
        connection = session.connection()
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 7000, "foreign_keys": 1, "synchronous": 2}


async def test_a_commit_waits_for_the_disk_unless_nobody_needs_it_there(sqlite_url: str) -> None:
    """Of one connection, transactions that say so are not forced, and all others are, whatever was before them."""
    async with (storage := storage_at(sqlite_url, pool_size=1)).lifespan():
        assert await storage.write(synchronous, forced=False) == 1
        assert await storage.write(synchronous) == 2
        assert await storage.write(synchronous, forced=False) == 1
        await storage.read(ids)
        with storage.transaction() as session:
            assert synchronous(session) == 2


def synchronous(session: Session) -> int:
    """What a commit waits for: 2, that the disk has it; 1, nothing (https://www.sqlite.org/pragma.html)."""
    found: int = session.connection().exec_driver_sql("PRAGMA synchronous").scalar_one()
    return found


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """A mistyped path is an error that names the setting and the folder."""
    storage = storage_at(f"sqlite:///{tmp_path}/no/such/x.db")
    with pytest.raises(ConfigError, match=r"database\.url: the folder .*/no/such does not exist"):
        storage.migrate()
    assert not (tmp_path / "no").exists()


def test_a_file_that_is_no_database_is_refused(sqlite_url: str, file: Path) -> None:
    """Whatever it is, it stays as it is."""
    file.write_text("precious notes\n" * 100)
    with pytest.raises(StorageError, match="SQLITE_NOTADB"):
        storage_at(sqlite_url).migrate()
    assert file.read_text() == "precious notes\n" * 100


def test_readers_do_not_wait_for_a_writer(sqlite_url: str, file: Path) -> None:
    """While another process writes, what was committed before can be read."""
    storage = storage_at(sqlite_url)
    with storage.opened(), raw(file) as other:
        other.execute("BEGIN IMMEDIATE")
        with storage.transaction(write=False) as session:
            assert ids(session) == []


def test_a_lock_that_is_held_too_long_is_an_outage(sqlite_url: str, file: Path) -> None:
    """After the busy timeout the caller gets 503, not an internal error; afterwards all is well."""
    storage = storage_at(sqlite_url, busy_timeout=0.05)
    with storage.opened():
        with raw(file) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="SQLITE_BUSY"), storage.transaction() as session:
                put("a")(session)
        with storage.transaction() as session:
            put("b")(session)
        with storage.transaction(write=False) as session:
            assert ids(session) == ["b"]


def test_threads_of_a_process_take_turns_at_writing(sqlite_url: str) -> None:
    """Who waits too long for another thread is told so and may come again; nobody sleeps at the lock of SQLite."""
    with storage_at(sqlite_url, busy_timeout=0.05).opened() as storage, ThreadPoolExecutor(8) as threads:
        with storage.transaction() as session:
            put("first")(session)
            with pytest.raises(Unavailable, match="other threads of this process"):
                threads.submit(_put_one, storage, "too-early").result(30)
        with storage.transaction(write=False) as session:
            assert ids(session) == ["first"]
    with storage_at(sqlite_url).opened() as storage, ThreadPoolExecutor(8) as threads:
        names = [f"then-{number:03}" for number in range(200)]
        list(threads.map(partial(_put_one, storage), names))
        with storage.transaction(write=False) as session:
            assert sorted(ids(session)) == ["first", *names]


def _put_one(storage: Storage, name: str) -> None:
    with storage.transaction() as session:
        put(name)(session)


def test_eight_processes_read_then_write_without_a_locked_database(sqlite_url: str) -> None:
    """Every one of 400 transactions sees all before it: none is refused, none reads what is out of date."""
    processes = [start(READ_THEN_WRITE, URL=sqlite_url) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, results
    storage = storage_at(sqlite_url)
    with storage.opened(), storage.transaction(write=False) as session:
        assert sorted(map(int, ids(session))) == list(range(400))


def test_a_kill_in_the_middle_of_a_batch_leaves_whole_batches(sqlite_url: str, file: Path) -> None:
    """After kill -9 the file is intact, and of every batch either all rows are there or none."""
    process = start(BATCHES, URL=sqlite_url)
    assert process.stdout is not None
    for _ in range(20):
        assert process.stdout.readline()
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    with raw(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    storage = storage_at(sqlite_url)
    with storage.opened(), storage.transaction(write=False) as session:
        counts: dict[str, int] = {}
        for request_id in ids(session):
            batch = request_id.split("-")[0]
            counts[batch] = counts.get(batch, 0) + 1
    assert len(counts) >= 19
    assert set(counts.values()) == {100}
