"""Exactly one record for each accepted request, whatever befalls client, provider, process or database."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from gatewaykit import CallRecord, Gateway, GatewayError
from gatewaykit.builtin.ledger.ledger import Ledger
from gatewaykit.storage import Storage
from gatewaykit.testing import KEY, FakeProvider, Upstream, gateway_client, make_gateway, plugin_of, until
from gatewaykit.testing.servers import PostgresServer

from ..e2e import openai_upstream
from ..storage.conftest import start
from .conftest import counted, ids, record, rows, storage_at
from .serving import chat, client, served, upstream_section

ACCEPTED = 10_000
SOCKETS = 400
FAULTS = [
    "",
    "[[upstream: 500]]",
    "[[upstream: 429]]",
    "[[upstream: html]]",
    "[[upstream: close]]",
    "[[upstream: reset]]",
    "[[upstream: silent]]",
    "[[upstream: reset-midway]]",
    "[[upstream: stall-midway]]",
    "[[upstream: error-midway]]",
    "[[upstream: ends-early]]",
]
HELD = """
import os, sqlite3, sys
connection = sqlite3.connect(os.environ["FILE"], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


async def _ask(client: httpx.AsyncClient, upstream: Upstream, number: int, choice: random.Random) -> None:
    """One request of some kind, with an end of some kind."""
    body = chat(f"say 20 words {choice.choice(FAULTS)}", stream=choice.random() < 0.6)
    headers = {"x-request-id": f"call-{number}"}
    kind = choice.random()
    if kind < 0.1:
        await client.post("/v1/chat/completions", content=b"{", headers=headers)
    elif kind < 0.2:
        await client.post("/v1/chat/completions", json={**body, "model": f"none-{number}"}, headers=headers)
    elif kind < 0.3:
        await client.get("/v1/models", headers={**headers, "authorization": "Bearer wrong"})
    elif kind < 0.4 and body["stream"]:
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            with suppress(StopAsyncIteration, httpx.HTTPError):
                await anext(answer.aiter_raw())
    elif kind < 0.5:
        stalled = chat(f"[[upstream: silent]] for call-{number}.", stream=body["stream"])
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=stalled, headers=headers))
        await until(lambda: any(f"call-{number}.".encode() in one.body for one in upstream.requests), 30)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    else:
        with suppress(httpx.HTTPError):
            await client.post("/v1/chat/completions", json=body, headers=headers)


def synthetic(number: int, choice: random.Random) -> CallRecord:
    """A record as the pipeline makes it at the end of a call."""
    outcome = choice.choice(["done", "refused", "client_gone", "provider_error", "timeout", "failed", "blocked"])
    return record(f"made-{number}", outcome=outcome, principal=f"key_{number % 100}", began=1.79e9 + number)


async def test_ten_thousand_requests_and_ten_thousand_records(url: str, folder: Path) -> None:
    """Clients that leave before and amid answers, providers that fail in eleven ways, time limits: one record each."""
    choice = random.Random(4)
    async with Upstream(openai_upstream.serve) as upstream:
        gateway = make_gateway(
            database={"url": url},
            ledger={"outbox": str(folder)},
            openai=upstream_section(upstream),
            timeouts={"first_event": 0.3, "between_events": 0.3},
        )
        async with gateway_client(gateway) as asking:
            for first in range(0, SOCKETS, 20):
                batch = (_ask(asking, upstream, number, choice) for number in range(first, first + 20))
                await asyncio.gather(*batch)
                for number in range(first * 24, first * 24 + 480):
                    for seal in gateway._assembly.parts.seal:
                        seal(synthetic(number, choice))
    storage = storage_at(url)
    with storage.opened():
        found = ids(storage)
        assert {f"call-{number}" for number in range(SOCKETS)} - set(found) == set()
        assert len(set(found)) == ACCEPTED
        assert counted(storage) == [ACCEPTED] * 3
        outcomes = Counter(row.outcome for row in rows(storage) if row.request_id.startswith("call-"))
    assert {"done", "refused", "client_gone", "provider_error", "timeout"} <= set(outcomes)
    assert list(folder.iterdir()) == []


async def _load(url: str, name: str, answered: set[str]) -> None:
    """Ask on and on, and remember which answers came whole, until nobody answers any more."""
    async with client(url) as asking:
        for number in range(10**6):
            request_id = f"{name}-{number}"
            body = chat("say 6 words", stream=number % 2 == 0)
            answer = await asking.post("/v1/chat/completions", json=body, headers={"x-request-id": request_id})
            if answer.status_code == 200 and (not body["stream"] or answer.text.endswith("data: [DONE]\n\n")):
                answered.add(answer.headers["x-request-id"])


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_kill_9_under_load(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A worker is killed, then all; after the next start there is one record for every answered call, none twice."""
    url = request.getfixturevalue(f"{database}_url")
    answered: set[str] = set()
    async with Upstream(openai_upstream.serve) as upstream:
        with served(tmp_path, url, upstream, "--workers", "2") as gateway:
            address = await gateway.url()
            load = [asyncio.create_task(_load(address, f"a{n}", answered)) for n in range(8)]
            await until(lambda: len(answered) > 100, 60)
            killed = gateway.workers[0]
            _kill(killed)
            await until(lambda: killed not in gateway.workers and len(gateway.workers) == 2, 60)
            load += [asyncio.create_task(_load(address, f"b{n}", answered)) for n in range(8)]
            await until(lambda: len(answered) > 300, 60)
            gateway.kill()
            results = await asyncio.gather(*load, return_exceptions=True)
            assert all(isinstance(result, httpx.TransportError) for result in results), results
        with served(tmp_path, url, upstream) as gateway:
            await gateway.url()
            assert await gateway.stop() == 0, gateway.said
    storage = storage_at(url)
    with storage.opened():
        found = Counter(ids(storage))
        assert set(found) >= answered
        assert set(found.values()) == {1}
        assert counted(storage) == [len(found)] * 3
    _check_integrity(storage, url)
    assert list((tmp_path / "outbox").iterdir()) == []


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _check_integrity(storage: Storage, url: str) -> None:
    if url.startswith("sqlite"):
        with storage.opened(), storage.transaction(write=False) as session:
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"


async def test_a_stop_amid_twenty_streams(sqlite_url: str, tmp_path: Path) -> None:
    """After SIGTERM the streams go on to their ends, and each has its record when the process is gone."""
    async with Upstream(openai_upstream.serve) as upstream:
        with served(tmp_path, sqlite_url, upstream, "--workers", "2") as gateway:
            async with client(await gateway.url()) as asking:
                begun: asyncio.Queue[str] = asyncio.Queue()

                async def stream(number: int) -> None:
                    body = chat("say 6 words [[upstream: stall-midway]]", stream=True)
                    headers = {"x-request-id": f"stream-{number}"}
                    async with asking.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
                        async for _ in answer.aiter_raw():
                            begun.put_nowait(headers["x-request-id"])

                streams = [asyncio.create_task(stream(number)) for number in range(20)]
                seen: set[str] = set()
                while len(seen) < 20:
                    seen.add(await asyncio.wait_for(begun.get(), 60))
                stopping = asyncio.create_task(gateway.stop())
                upstream.release()
                await asyncio.gather(*streams, return_exceptions=True)
                assert await stopping == 0, gateway.said
    storage = storage_at(sqlite_url)
    with storage.opened():
        assert sorted(ids(storage)) == sorted(f"stream-{number}" for number in range(20))
    assert list((tmp_path / "outbox").iterdir()) == []


async def test_a_postgres_that_dies_and_comes_back(folder: Path) -> None:
    """Calls are answered all the while; the records of before, meanwhile and after are all there in the end."""
    server = PostgresServer()
    try:
        url = server.url(server.database())
        gateway = make_gateway(
            plugin_of(providers=[FakeProvider()]), database={"url": url}, ledger={"outbox": str(folder)}
        )
        async with gateway_client(gateway) as asking:
            storage = gateway.storage
            assert storage is not None
            await _few(asking, "before")
            await until(lambda: len(ids(storage)) == 5, 30)
            await asyncio.to_thread(server.kill)
            await _few(asking, "meanwhile")
            await until(lambda: ledger_failures(gateway) > 0, 30)
            await asyncio.to_thread(server.start)
            await _few(asking, "after")
            await until(lambda: _found(storage) == 15, 60)
            assert counted(storage) == [15, 15, 15]
    finally:
        server.close()


def ledger_failures(gateway: Gateway) -> int:
    """How often the database has failed the ledger."""
    owners = (getattr(begin, "__self__", None) for begin in gateway._assembly.lifespans)
    (ledger,) = (one for one in owners if isinstance(one, Ledger))
    return ledger.writer.failures


def _found(storage: Storage) -> int:
    try:
        return len(ids(storage))
    except GatewayError:
        return -1


async def _few(asking: httpx.AsyncClient, name: str) -> None:
    for number in range(5):
        body = {"model": "fake/m-1", "messages": [{"role": "user", "content": "x"}]}
        headers = {"x-request-id": f"{name}-{number}", "authorization": f"Bearer {KEY}"}
        assert (await asking.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200


async def test_another_process_holds_the_lock_of_sqlite(sqlite_url: str, folder: Path) -> None:
    """For longer than the ledger waits: nothing is lost, and it catches up."""
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider()]),
        database={"url": sqlite_url, "busy_timeout": 0.05},
        ledger={"outbox": str(folder)},
    )
    async with gateway_client(gateway) as asking:
        holder = start(HELD, FILE=sqlite_url.removeprefix("sqlite:///"))
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "locked\n"
        await _few(asking, "meanwhile")
        await until(lambda: ledger_failures(gateway) > 1, 30)
        await asyncio.to_thread(holder.communicate)
        storage = gateway.storage
        assert storage is not None
        await until(lambda: len(ids(storage)) == 5, 30)
        assert counted(storage) == [5, 5, 5]
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()
