"""A backlog: what an outage or an ended process leaves is written with few files open, and before budgets begin."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from gatewaykit.builtin.ledger import outbox as outbox_module
from gatewaykit.builtin.ledger import writer as writer_module
from gatewaykit.builtin.ledger.ledger import _prefix
from gatewaykit.builtin.ledger.outbox import Outbox
from gatewaykit.builtin.ledger.rows import encode
from gatewaykit.builtin.ledger.segments import frame
from gatewaykit.storage import Storage
from gatewaykit.testing import Upstream

from ..e2e import openai_upstream
from ..storage.conftest import start
from .conftest import BEGAN, counted, down, ids, opened, record, segments, storage_at, write
from .serving import chat, client, served
from .test_outbox import SEALER

MANY = 300
CRAMPED = (
    SEALER
    + """
import resource
with storage.opened():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    ledger.writer.flush()
    print(ledger.writer.written, ledger.writer.failures, ledger.outbox.depth, flush=True)
    ledger.outbox.close()
"""
)
BUDGET = """
[prices]
models = [{model = "gpt-sandbox", input = 100000, output = 100000}]
[limits.each_key]
budget = 20
budget_period = "total"
"""


def left_behind(url: str, folder: Path, number: int) -> None:
    """Files with a record each, whose processes are gone."""
    folder.mkdir(exist_ok=True)
    prefix = _prefix(storage_at(url))
    for each in range(number):
        line = frame(encode(record(f"r{each:04}", began=BEGAN + each), None))
        (folder / f"{prefix}-{each:016x}-1-0.log").write_bytes(line)


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_hundreds_of_files_need_few_descriptors(url: str, folder: Path) -> None:
    """A process that may have 64 files open writes what is in 300 of others, in one turn."""
    storage = storage_at(url)
    storage.migrate()
    left_behind(url, folder, MANY)
    out, err = start(CRAMPED, URL=url, OUTBOX=str(folder)).communicate(timeout=120)
    assert out == f"{MANY} 0 0\n", err
    assert list(folder.iterdir()) == []
    with storage.opened():
        assert counted(storage) == [MANY] * 3


def test_a_long_outage_keeps_few_files_open(sqlite_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After hundreds of full files there are a few descriptors more, all records are told of, and none is lost."""
    monkeypatch.setattr(outbox_module, "_LARGEST", 1)
    storage = storage_at(sqlite_url)
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        before = descriptors()
        with down(storage):
            for number in range(MANY):
                ledger.seal(record(f"r{number}"))
                ledger.writer.flush()
            assert descriptors() < before + 20
            for _ in range(2):
                assert ledger.outbox.depth == MANY
                assert ledger.outbox.depth_bytes == sum(path.stat().st_size for path in folder.iterdir())
                ledger.outbox.measure()
        ledger.writer.flush()
        assert ledger.outbox.depth == ledger.outbox.depth_bytes == 0
        assert counted(storage) == [MANY] * 3
        assert [path.stat().st_size for path in segments(folder)] == [0]


def test_an_outage_makes_no_more_files_than_it_has_to(sqlite_url: str, folder: Path) -> None:
    """Records go on into one file until that is large, however long the database is away."""
    storage = storage_at(sqlite_url)
    with opened(storage, folder) as ledger, down(storage):
        for number in range(50):
            ledger.seal(record(f"r{number}"))
            ledger.writer.flush()
        assert len(segments(folder)) == 1


def test_what_nobody_holds_is_counted_once(folder: Path) -> None:
    """Of two processes on one folder one tells of the files of a third that is gone, the other of its own alone."""
    outboxes = [Outbox(folder, "p") for _ in range(2)]
    for outbox in outboxes:
        outbox.open()
        outbox.append(b"mine\n")
    (folder / f"p-{0:016x}-1-0.log").write_bytes(b"a line.\n" * 100_000)
    for outbox in outboxes:
        outbox.measure()
    assert sorted(outbox.depth for outbox in outboxes) == [1, 100_001]
    for outbox in outboxes:
        outbox.close()


def test_the_newest_and_the_backlog_come_by_turns(folder: Path) -> None:
    """Neither waits until there is nothing of the other: under load there always is."""
    folder.mkdir()
    (folder / f"p-{0:016x}-1-0.log").write_bytes(b"old\n" * 100_000)
    outbox = Outbox(folder, "p")
    outbox.append(b"new\n")
    outbox.adopt()
    seen = []
    for _ in range(4):
        batch = outbox.batch()
        assert batch is not None
        seen.append(batch.lines[0])
        outbox.done(batch)
        outbox.append(b"new\n")
    assert sorted(seen) == [b"new", b"new", b"old", b"old"]
    outbox.close()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process has the lock of SQLite."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def calls(client: httpx.AsyncClient, number: int) -> list[int]:
    """The statuses of so many calls, each of which costs at least one."""
    body = chat("hi", max_tokens=3)
    return [(await client.post("/v1/chat/completions", json=body)).status_code for _ in range(number)]


@pytest.mark.parametrize("end", ["SIGTERM", "kill -9"])
async def test_a_budget_that_is_used_up_stays_so(end: str, sqlite_url: str, tmp_path: Path) -> None:
    """What was spent while the database took nothing counts after a restart, in each worker, from the first call on."""
    async with Upstream(openai_upstream.serve) as upstream:
        with served(tmp_path, sqlite_url, upstream, sections=BUDGET) as gateway:
            async with client(await gateway.url()) as asking:
                with locked(tmp_path / "gatewaykit.db"):
                    assert set(await calls(asking, 25)) == {200, 429}
                    if end == "SIGTERM":
                        assert await gateway.stop() == 0
                    gateway.kill()
        assert sum(path.read_bytes().count(b"\n") for path in segments(tmp_path / "outbox")) == 25
        with served(tmp_path, sqlite_url, upstream, "--workers", "2", sections=BUDGET) as gateway:
            address = await gateway.url()
            for _ in range(6):
                async with client(address) as asking:
                    assert await calls(asking, 1) == [429]
            assert await gateway.stop() == 0
    storage = storage_at(sqlite_url)
    with storage.opened():
        assert len(ids(storage)) == 31


def test_what_the_database_never_takes_holds_up_no_budget_for_ever(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After ten minutes in which it answers, budgets begin without those records, and the log says so."""
    with opened(storage, folder) as ledger:
        with storage.transaction() as session:
            session.execute(text("ALTER TABLE call_records RENAME TO elsewhere"))
        write(ledger, record("a"), record("b"))
        storage.settled.clear()
        ledger.writer.turn()
        assert not storage.settled.is_set()
        monkeypatch.setattr(writer_module, "_HELD_UP", -1.0)
        ledger.writer.turn()
        assert storage.settled.is_set()
        assert "2 records of before are not taken by the database" in caplog.text
        with storage.transaction() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO call_records"))
        ledger.writer.flush()
        assert ids(storage) == ["a", "b"]


def test_what_another_process_has_taken_over_is_waited_for(folder: Path) -> None:
    """Of workers that start together one has the files of before; the others know that these are not written yet."""
    folder.mkdir()
    (folder / f"p-{0:016x}-1-0.log").write_bytes(b"old\n")
    has, waits = Outbox(folder, "p"), Outbox(folder, "p")
    has.open()
    assert has.adopt() == 1
    waits.identify("p")
    assert (waits.adopt(), waits.settled) == (0, False)
    batch = has.batch()
    assert batch is not None
    assert not waits.settled
    has.done(batch)
    assert waits.settled
    has.close()
