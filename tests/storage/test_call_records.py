"""Records of calls: each once, through outages and repetitions, and never on a client's time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gatewaykit import Attempt, CallRecord, Gateway, Target, Usage
from gatewaykit.builtin.call_records import CallRecords
from gatewaykit.storage import Storage, StoredCall
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of

from .conftest import start, storage_at
from .test_sqlite import raw
from .test_transactions import ids

BEGAN = 1_790_000_000.123456
TARGET = Target("fake", "m-1")
CHAT = {"model": "fake/m-1", "messages": [{"role": "user", "content": "a secret thought"}]}


def record(request_id: str = "r", **values: Any) -> CallRecord:
    began = values.pop("began", BEGAN)
    return CallRecord(request_id, began, "POST", "/v1/x", "openai_chat", 200, "done", 0.25, **values)


def rows(storage: Storage) -> list[StoredCall]:
    with storage.transaction(write=False) as session:
        return list(session.scalars(select(StoredCall).order_by(StoredCall.began, StoredCall.request_id)))


def write(observer: CallRecords, *records: CallRecord) -> None:
    for one in records:
        observer.record(one)
    observer.flush()


@contextmanager
def refusing(observer: CallRecords, storage: Storage) -> Iterator[None]:
    """The database is down meanwhile."""
    opened, storage._open = storage._open, None
    try:
        yield
    finally:
        storage._open = opened


def test_a_record_is_kept_with_all_that_matters(storage: Storage) -> None:
    """Every field comes back as it was, the time in UTC, tokens as whole numbers, each attempt with its error."""
    full = record(
        client="192.0.2.1",
        principal="static:demo",
        tenant="t",
        model="m",
        stream=True,
        target=TARGET,
        attempts=(Attempt(Target("a", "b"), 0.1, "provider_busy"), Attempt(TARGET, 0.2)),
        first_event_seconds=0.2,
        usage=Usage(10, 20, 3, 4, estimated=True),
        error="provider_timeout",
    )
    with storage.opened():
        write(CallRecords(storage), full, record("empty", began=BEGAN + 1))
        kept, empty = rows(storage)
    assert (kept.request_id, kept.began) == ("r", datetime.fromtimestamp(BEGAN, UTC))
    assert (kept.method, kept.path, kept.dialect, kept.status, kept.outcome) == (
        "POST",
        "/v1/x",
        "openai_chat",
        200,
        "done",
    )
    assert (kept.client, kept.principal, kept.tenant, kept.model) == ("192.0.2.1", "static:demo", "t", "m")
    assert (kept.stream, kept.provider, kept.provider_model) == (True, "fake", "m-1")
    assert kept.attempts == [
        {"target": "a/b", "seconds": 0.1, "error": "provider_busy"},
        {"target": "fake/m-1", "seconds": 0.2, "error": None},
    ]
    assert (kept.seconds, kept.first_event_seconds, kept.error) == (0.25, 0.2, "provider_timeout")
    assert (kept.input_tokens, kept.output_tokens, kept.cached_tokens, kept.reasoning_tokens) == (10, 20, 3, 4)
    assert kept.estimated is True
    assert (empty.provider, empty.input_tokens, empty.estimated, empty.attempts) == (None, None, None, [])


def test_the_same_record_twice_is_one_row(storage: Storage) -> None:
    """A batch that was written although its writer was told otherwise may be written again."""
    with storage.opened():
        write(CallRecords(storage), record("a"), record("b"), record("a"))
        write(CallRecords(storage), record("b"), record("c"))
        assert [row.request_id for row in rows(storage)] == ["a", "b", "c"]


def test_a_client_cannot_hide_a_call_behind_the_id_of_another(storage: Storage) -> None:
    """Clients may choose the request id; two calls with the same one are two rows."""
    with storage.opened():
        write(CallRecords(storage), record("mine"), record("mine", began=BEGAN + 0.001))
        assert len(rows(storage)) == 2


def test_a_batch_that_the_database_does_not_take_is_written_later(
    storage: Storage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an outage records wait, the database is asked only after a pause, and then all are written at once."""
    observer = CallRecords(storage)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with storage.opened():
        with refusing(observer, storage):
            write(observer, record("a"))
        write(observer, record("b"))
        assert rows(storage) == []
        now += 1.1
        write(observer, record("c"))
        assert [row.request_id for row in rows(storage)] == ["a", "b", "c"]
    assert "1 records of calls are not written yet" in caplog.text
    assert observer.lost == 0


def test_what_waits_is_bounded(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """Of more records than there is room for the oldest are lost, counted, and reported once the database is back."""
    observer = CallRecords(storage, capacity=3)
    with storage.opened():
        with refusing(observer, storage):
            write(observer, *(record(str(number)) for number in range(5)))
        observer._next_try = 0.0
        observer.flush()
        assert [row.request_id for row in rows(storage)] == ["2", "3", "4"]
    assert observer.lost == 2
    assert "2 records of calls were lost" in caplog.text


async def test_the_end_does_not_wait_for_the_pause(storage: Storage) -> None:
    """What waits gets its last chance when the gateway stops."""
    observer = CallRecords(storage)
    async with storage.lifespan():
        async with observer.lifespan():
            with refusing(observer, storage):
                write(observer, record("a"))
        write(observer, record("b"))
        assert [row.request_id for row in rows(storage)] == ["a", "b"]


def test_a_row_that_is_refused_does_not_hold_up_the_others(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """A record that the database will never take is dropped and counted; those around it are written."""
    observer = CallRecords(storage)
    bad = record("bad")
    bad.method = None  # type: ignore[assignment]
    with storage.opened():
        write(observer, record("a"), bad, record("b"))
        assert [row.request_id for row in rows(storage)] == ["a", "b"]
    assert observer.lost == 1
    assert "1 records of calls were lost" in caplog.text


@given(st.text(), st.integers(), st.text(st.characters(categories=["Cs", "Cc", "Lu"]), min_size=200, max_size=400))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_clients_and_providers_say_can_be_kept(url: str, model: str, tokens: int, tenant: str) -> None:
    """NUL, halves of surrogate pairs, endless names and absurd numbers reach no database: the row is written."""
    storage = storage_at(url)
    observer = CallRecords(storage)
    with storage.opened():
        with storage.transaction() as session:
            session.execute(StoredCall.__table__.delete())
        write(observer, record(model=model, tenant=tenant, usage=Usage(tokens, tokens)))
        (row,) = rows(storage)
    assert row.input_tokens == min(max(tokens, 0), 2**63 - 1)
    assert len(row.tenant or "") <= 256
    assert observer.lost == 0


def gateway_at(url: str | None) -> Gateway:
    """A gateway that has a provider called `fake` and keeps its records there."""
    sections = {"database": {"url": url}} if url else {}
    return make_gateway(plugin_of(providers=[FakeProvider()]), **sections)


async def test_every_call_through_a_gateway_leaves_one_row(url: str) -> None:
    """Answered, refused and unknown: each has its row when the gateway has stopped, and no row has what was said."""
    gateway = gateway_at(url)
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
    assert sorted(found) == [*(f"call-{number}" for number in range(5)), "stranger", "wrong"]
    assert found["call-0"].provider == "fake"
    assert (found["wrong"].status, found["wrong"].outcome) == (400, "refused")
    assert (found["stranger"].status, found["stranger"].principal) == (401, None)
    assert "secret thought" not in repr([vars(row) for row in found.values()])


async def test_rows_are_there_while_the_gateway_runs(sqlite_url: str) -> None:
    """Nobody has to wait for the stop to see what happened a moment ago."""
    gateway = gateway_at(sqlite_url)
    async with gateway_client(gateway) as client:
        await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "now"})
        assert gateway.storage is not None
        while "now" not in await gateway.storage.read(ids):
            pass


async def test_an_outage_of_the_database_is_not_the_clients(sqlite_url: str) -> None:
    """While another process holds the lock, calls are answered as ever; their rows are written afterwards."""
    gateway = gateway_at(sqlite_url)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    async with gateway_client(gateway) as client:
        with raw(file) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = await client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "meanwhile"})
            assert answer.status_code == 200
    storage = storage_at(sqlite_url)
    with storage.opened():
        assert [row.request_id for row in rows(storage)] == ["meanwhile"]


async def test_without_a_database_there_is_no_storage() -> None:
    """Nothing is kept, and hooks are told so."""
    gateway = gateway_at(None)
    assert gateway.storage is None
    async with gateway_client(gateway) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


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
