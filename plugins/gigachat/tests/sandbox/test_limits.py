"""Parallel requests per client."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from gatewaykit_gigachat.sandbox import B2B, CORP, PERS, SandboxSettings, create_sandbox, running_sandbox

TOO_MANY = {"status": 429, "message": "Too many requests"}
BODY = {"model": "GigaChat", "messages": [{"role": "user", "content": "hi"}]}


async def hold(client: httpx.AsyncClient, entered: asyncio.Event, leave: asyncio.Event) -> None:
    """Keep one stream open until told to leave."""
    headers = {"x-sandbox-fault": "stall=0"}
    async with client.stream("POST", "/chat/completions", json={**BODY, "stream": True}, headers=headers) as answer:
        assert answer.status_code == 200
        entered.set()
        await leave.wait()


@pytest.mark.parametrize(("scope", "places"), [(PERS, 1), (B2B, 10), (CORP, 10)])
async def test_places(running, open_api, until, scope, places):
    """So many streams of one client are open at a time; one more request gets 429 at once, others do not suffer."""
    api = open_api(running, scope)
    other = open_api(running, B2B if scope != B2B else CORP)
    headers = {"authorization": api.http.headers["authorization"]}
    leave = asyncio.Event()
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=running.base_url, headers=headers, limits=limits, timeout=20) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(places):
                entered = asyncio.Event()
                group.create_task(hold(client, entered, leave))
                await entered.wait()
            refused = await client.post("/chat/completions", json=BODY)
            assert (refused.status_code, refused.json()) == (429, TOO_MANY)
            embedded = await client.post("/embeddings", json={"model": "Embeddings", "input": "a"})
            assert embedded.status_code == 429
            assert (await client.get("/models")).status_code == 200
            assert other.chat("hi").status_code == 200
            assert running.stats.live_streams == places
            leave.set()
        await asyncio.to_thread(until, lambda: running.stats.parallel == 0)
        assert (await client.post("/chat/completions", json=BODY)).status_code == 200
    assert running.stats.peak_parallel >= places


@pytest.mark.parametrize("stream", [True, False])
async def test_place_is_free_with_the_last_byte(stream):
    """A place is held until the last byte of an answer, and is free again when that byte is sent."""
    app = create_sandbox(SandboxSettings(anonymous_scope=PERS))
    stats = app.state.sandbox.stats
    held: list[tuple[bool, int]] = []

    async def spied(scope: Scope, receive: Receive, send: Send) -> None:
        async def spying(message: Message) -> None:
            if message["type"] == "http.response.body":
                held.append((message.get("more_body", False), stats.parallel))
            await send(message)

        await app(scope, receive, spying)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(spied), base_url="http://sandbox/v1") as client:
        body = {**BODY, "stream": stream}
        answer = await client.post("/chat/completions", json=body, headers={"x-sandbox-fault": "split=100"})
    assert answer.status_code == 200
    assert len(held) > 2
    assert held == [(True, 1)] * (len(held) - 1) + [(False, 0)]


def test_place_is_free_after_the_last_byte(running, open_api):
    """A client with one place may ask again as soon as it has read an answer to its end."""
    api = open_api(running, PERS)
    for number in range(1, 30):
        assert api.stream(f"say {number} words")[-1] == "[DONE]"
        assert running.stats.live_streams == 0
        assert api.chat(f"say {number} words").status_code == 200


def test_limits_are_settable(open_api):
    """The number of places is a setting; with none every request is refused."""
    with running_sandbox(SandboxSettings(parallel=MappingProxyType({B2B: 0}))) as running:
        api = open_api(running)
        assert api.chat("hi").json() == TOO_MANY
        assert running.stats.refused_parallel == 1
