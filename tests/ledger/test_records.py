"""Records of calls: each once, through outages and repetitions, and never on a client's time."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from gatewaykit import Attempt, Gateway, Target, Usage
from gatewaykit.builtin.ledger.rows import MOST_TOKENS
from gatewaykit.storage import Storage, StoredCall
from gatewaykit.storage.tables import StoredPriceList
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of, until

from ..storage.conftest import start
from ..storage.test_sqlite import raw
from .conftest import (
    BEGAN,
    PRICES,
    TARGET,
    answered,
    counted,
    down,
    ids,
    opened,
    record,
    rows,
    segments,
    storage_at,
    write,
)

CHAT = {"model": "fake/m-1", "messages": [{"role": "user", "content": "a secret thought"}]}


def test_a_record_is_kept_with_all_that_matters(storage: Storage, folder: Path) -> None:
    """Every field comes back as it was, the time in UTC, tokens as whole numbers, each attempt with its error."""
    full = record(
        client="192.0.2.1",
        principal="static:demo",
        owner="acc_1",
        tenant="t",
        model="m",
        stream=True,
        target=TARGET,
        attempts=(Attempt(Target("a", "b"), 0.1, "provider_busy"), Attempt(TARGET, 0.2)),
        first_event_seconds=0.2,
        usage=Usage(10, 20, 3, 4, estimated=True),
        error="provider_timeout",
    )
    with opened(storage, folder, PRICES) as ledger:
        write(ledger, full, record("empty", began=BEGAN + 1))
        kept, empty = rows(storage)
    assert (kept.request_id, kept.began) == ("r", datetime.fromtimestamp(BEGAN, UTC))
    assert (kept.method, kept.path, kept.dialect) == ("POST", "/v1/x", "openai_chat")
    assert (kept.status, kept.outcome, kept.error) == (200, "done", "provider_timeout")
    assert (kept.client, kept.principal, kept.owner, kept.tenant) == ("192.0.2.1", "static:demo", "acc_1", "t")
    assert (kept.model, kept.stream, kept.provider, kept.provider_model) == ("m", True, "fake", "m-1")
    assert kept.attempts == [
        {"target": "a/b", "seconds": 0.1, "error": "provider_busy"},
        {"target": "fake/m-1", "seconds": 0.2, "error": None},
    ]
    assert (kept.seconds, kept.first_event_seconds) == (0.25, 0.2)
    assert (kept.input_tokens, kept.output_tokens, kept.cached_tokens, kept.reasoning_tokens) == (10, 20, 3, 4)
    assert kept.estimated is True
    assert (kept.cost, kept.currency, kept.spend) == (90, "RUB", 90)
    assert (empty.provider, empty.input_tokens, empty.estimated, empty.attempts) == (None, None, None, [])
    assert (empty.owner, empty.cost, empty.currency, empty.spend) == (None, None, None, None)
    assert kept.price_version == empty.price_version
    assert len(kept.price_version or "") == 12


def test_the_same_record_twice_is_one_row(storage: Storage, folder: Path) -> None:
    """A batch that was written although its writer was told otherwise may be written again, and counts once."""
    with opened(storage, folder) as ledger:
        write(ledger, record("a"), record("b"), record("a"))
        write(ledger, record("b"), record("c"))
        assert ids(storage) == ["a", "b", "c"]
        assert counted(storage) == [3, 3, 3]
        assert (ledger.writer.written, ledger.books.duplicates) == (3, 2)


def test_a_client_cannot_hide_a_call_behind_the_id_of_another(storage: Storage, folder: Path) -> None:
    """Two calls with one id are two rows, even where they began in the same microsecond, however often written."""
    calls = [record("mine"), record("mine", began=BEGAN + 0.001), *(record("mine", seconds=0.1 + n) for n in range(3))]
    with opened(storage, folder) as ledger:
        write(ledger, *calls)
        write(ledger, *calls)
        assert len(rows(storage)) == 5
        assert counted(storage) == [5, 5, 5]


def test_a_batch_that_the_database_does_not_take_is_written_later(
    storage: Storage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """During an outage records wait, the database is asked only after a pause, and the log says it once."""
    with opened(storage, folder) as ledger:
        with down(storage):
            write(ledger, record("a"))
            write(ledger, record("b"))
            assert ledger.outbox.depth == 2
        ledger.seal(record("c"))
        ledger.writer.turn()
        assert ids(storage) == []
        ledger.writer.flush()
        assert ids(storage) == ["a", "b", "c"]
        assert (ledger.outbox.depth, ledger.outbox.depth_bytes, ledger.outbox.oldest_age) == (0, 0, 0.0)
        assert (ledger.writer.failures, ledger.outbox.lost) == (2, 0)
    assert caplog.text.count("1 records of calls are not written yet") == 1
    assert caplog.text.count("are not written yet") == 1


def test_an_outage_over_a_restart_loses_nothing(storage: Storage, folder: Path) -> None:
    """What the database has not taken when the gateway stops is written by the next one."""
    with opened(storage, folder) as ledger, down(storage):
        write(ledger, record("a"), record("b"))
    with opened(storage, folder) as ledger:
        write(ledger, record("c"))
        assert ids(storage) == ["a", "b", "c"]


async def test_a_call_may_end_after_the_ledger(sqlite_url: str, folder: Path) -> None:
    """One that is broken off when the gateway stops has its record in the outbox, for the next start."""
    gateway = gateway_at(sqlite_url, folder)
    async with gateway_client(gateway):
        pass
    for seal in gateway._assembly.parts.seal:
        seal(record("late"))
    assert len(segments(folder)) == 1
    storage = storage_at(sqlite_url)
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert ids(storage) == ["late"]
    assert segments(folder) == []


def test_a_record_that_is_refused_does_not_hold_up_the_others(
    storage: Storage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A record that the database will never take is put aside in a file; those around it are written."""
    with opened(storage, folder) as ledger:
        with storage.transaction() as session:
            _forbid(session, "bad")
        write(ledger, record("a"), record("bad"), record("b"))
        assert ids(storage) == ["a", "b"]
        assert (ledger.writer.refused, ledger.outbox.lost) == (1, 0)
    assert "the record of the call bad is refused" in caplog.text
    (aside,) = folder.glob("*.damaged")
    assert b'"bad"' in aside.read_bytes()


def _forbid(session: Session, request_id: str) -> None:
    """From now on the database refuses this record."""
    if session.get_bind().dialect.name == "sqlite":
        body = f"BEFORE INSERT ON call_records WHEN new.request_id = '{request_id}'"
        session.execute(text(f"CREATE TRIGGER no {body} BEGIN SELECT RAISE(ABORT, 'no'); END"))
    else:
        session.execute(text(f"ALTER TABLE call_records ADD CHECK (request_id <> '{request_id}')"))


def test_a_database_that_refuses_everything_is_an_outage(storage: Storage, folder: Path) -> None:
    """Where a table is missing, no record is blamed for it: all wait until it is there."""
    with opened(storage, folder) as ledger:
        with storage.transaction() as session:
            session.execute(text("ALTER TABLE call_records RENAME TO elsewhere"))
        write(ledger, record("a"), record("b"))
        assert (ledger.writer.refused, ledger.outbox.depth) == (0, 2)
        with storage.transaction() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO call_records"))
        ledger.writer.flush()
        assert ids(storage) == ["a", "b"]


@given(st.text(), st.integers(), st.text(st.characters(categories=["Cs", "Cc", "Lu"]), min_size=200, max_size=400))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_clients_and_providers_say_can_be_kept(
    url: str, folder: Path, model: str, tokens: int, tenant: str
) -> None:
    """NUL, halves of surrogate pairs, endless names and absurd numbers reach no database: the row is written."""
    storage = storage_at(url)
    with opened(storage, folder) as ledger:
        with storage.transaction() as session:
            session.execute(delete(StoredCall))
        write(ledger, answered(model=model, tenant=tenant, owner=tenant, usage=Usage(tokens, tokens)))
        (row,) = rows(storage)
        assert ledger.writer.refused == ledger.writer.corrupt == ledger.outbox.lost == 0
    assert row.input_tokens == min(max(tokens, 0), MOST_TOKENS)
    assert len(row.tenant or "") <= 256


def gateway_at(url: str | None, folder: Path) -> Gateway:
    """A gateway that has a provider called `fake` and keeps its records there."""
    sections = {"database": {"url": url}, "ledger": {"outbox": str(folder)}} if url else {}
    return make_gateway(plugin_of(providers=[FakeProvider()]), **sections)


async def test_every_call_through_a_gateway_leaves_one_row(url: str, folder: Path) -> None:
    """Answered, refused and unknown: each has its row when the gateway has stopped, and no row has what was said."""
    gateway = gateway_at(url, folder)
    async with gateway_client(gateway) as client:
        for number in range(5):
            answer = await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": f"call-{number}"})
            assert answer.status_code == 200, answer.text
        wrong = await client.post("/v1/chat/completions", content=b"{", headers={"x-request-id": "wrong"})
        assert wrong.status_code == 400
        stranger = {"authorization": "Bearer nobody-knows-this-key", "x-request-id": "stranger"}
        assert (await client.post("/v1/chat/completions", json=CHAT, headers=stranger)).status_code == 401
    storage = storage_at(url)
    with storage.opened():
        found = {row.request_id: row for row in rows(storage)}
        assert counted(storage) == [7, 7, 7]
    assert sorted(found) == [*(f"call-{number}" for number in range(5)), "stranger", "wrong"]
    assert found["call-0"].provider == "fake"
    assert (found["wrong"].status, found["wrong"].outcome) == (400, "refused")
    assert (found["stranger"].status, found["stranger"].principal) == (401, None)
    assert "secret thought" not in repr([vars(row) for row in found.values()])
    assert list(folder.iterdir()) == []


async def test_rows_are_there_while_the_gateway_runs(sqlite_url: str, folder: Path) -> None:
    """Nobody has to wait for the stop to see what happened a moment ago."""
    gateway = gateway_at(sqlite_url, folder)
    async with gateway_client(gateway) as client:
        await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "now"})
        storage = gateway.storage
        assert storage is not None
        await until(lambda: "now" in ids(storage), 10)


async def test_the_record_is_safe_before_the_client_has_its_answer(sqlite_url: str, folder: Path) -> None:
    """When the last byte of an answer or of a stream arrives, the record is in a file."""
    gateway = gateway_at(sqlite_url, folder)
    with_lock = raw(Path(sqlite_url.removeprefix("sqlite:///")))
    async with gateway_client(gateway) as client:
        with with_lock as other:
            other.execute("BEGIN IMMEDIATE")
            for name, stream in (("whole", False), ("streamed", True)):
                body = {**CHAT, "stream": stream}
                await client.post("/v1/chat/completions", json=body, headers={"x-request-id": name})
                assert any(f'"{name}"'.encode() in file.read_bytes() for file in folder.glob("*.log"))


async def test_an_outage_of_the_database_is_not_the_clients(sqlite_url: str, folder: Path) -> None:
    """While another process holds the lock, calls are answered as ever; their rows are written afterwards."""
    gateway = gateway_at(sqlite_url, folder)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    async with gateway_client(gateway) as client:
        with raw(file) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "meanwhile"})
            assert answer.status_code == 200
    storage = storage_at(sqlite_url)
    with storage.opened():
        assert ids(storage) == ["meanwhile"]


async def test_without_a_database_there_is_no_storage(folder: Path) -> None:
    """Nothing is kept, and hooks are told so."""
    gateway = gateway_at(None, folder)
    assert gateway.storage is None
    async with gateway_client(gateway) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert not folder.exists()


async def test_two_event_loops_share_one_ledger(sqlite_url: str, folder: Path) -> None:
    """One that leaves does not end it for the other."""
    gateway = gateway_at(sqlite_url, folder)
    done = threading.Event()

    def elsewhere() -> None:
        async def main() -> None:
            async with gateway_client(gateway) as client:
                await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "there"})

        asyncio.run(main())
        done.set()

    async with gateway_client(gateway) as client:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await until(done.is_set, 20)
        thread.join()
        await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "here"})
    storage = storage_at(sqlite_url)
    with storage.opened():
        assert ids(storage) == ["here", "there"]


def test_without_a_database_its_libraries_are_not_loaded() -> None:
    """SQLAlchemy and Alembic cost no time and no memory where nobody needs them."""
    program = """
import sys
from gatewaykit import Gateway
Gateway({}, environ={})
print(sorted({name.split(".")[0] for name in sys.modules} & {"sqlalchemy", "alembic", "psycopg"}))
"""
    out, err = start(program).communicate(timeout=60)
    assert out == "[]\n", err


def test_prices_of_their_time_count(storage: Storage, folder: Path) -> None:
    """A record that waited while prices changed costs what it cost when it was made; every list is kept once."""
    with opened(storage, folder, PRICES) as ledger:
        write(ledger, answered("first"))
        with down(storage):
            write(ledger, answered("waited"))
    dearer = {"models": [{"model": "m-1", "input": 100, "output": 100}]}
    with opened(storage, folder, dearer) as ledger:
        write(ledger, answered("later"))
        assert {row.request_id: row.cost for row in rows(storage)} == {"first": 50, "waited": 50, "later": 2000}
        with storage.transaction(write=False) as session:
            lists = session.scalars(select(StoredPriceList)).all()
            assert {one.version for one in lists} == {row.price_version for row in rows(storage)}
            assert {one.currency for one in lists} == {"RUB"}


def test_a_price_list_of_a_newer_version_holds_up_nothing(
    storage: Storage, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a step back to an older version calls of a list that it cannot read have no cost; the log says it once."""
    with opened(storage, folder, {"models": [{"model": "*", "input": 7, "output": 7}]}) as ledger:
        ledger.books.open()
        with storage.transaction() as session:
            (newer,) = session.scalars(select(StoredPriceList))
            newer.document = {**newer.document, "surcharge": "0.5"}
            version = newer.version
        with down(storage):
            write(ledger, answered("of-the-newer"), answered("too", began=BEGAN + 1))
    with opened(storage, folder, PRICES) as ledger:
        write(ledger, answered("own"), answered("own-too", began=BEGAN + 1))
        assert {row.request_id: row.cost for row in rows(storage)} == {
            "of-the-newer": None,
            "too": None,
            "own": 50,
            "own-too": 50,
        }
        assert ledger.outbox.depth == 0
    assert caplog.text.count(f"the price list {version} cannot be read") == 1
