"""A gateway with a pool before the sandbox, over sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest

from gatewaykit.testing import make_gateway, serve
from gatewaykit.testing.waiting import until
from gatewaykit_gigachat.sandbox import B2B, PERS, RunningSandbox, SandboxSettings, running_sandbox

KEYS = {f"k{number}": f"gk_test_{number:020d}" for number in range(10)}
CALLERS = 200
CALLS = 250
TAKES_A_WHILE = "say 3 words [[fault: delay=0.25]]"


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """A sandbox whose streams take a moment."""
    with running_sandbox(SandboxSettings(event_interval=0.004)) as running:
        yield running


def pool_of(sandbox: RunningSandbox, *scopes: str, **settings: Any) -> dict[str, Any]:
    """The table ``[gigachat]`` with one credential for each scope."""
    members = {
        scope.rpartition("_")[2].lower(): {"credentials": sandbox.key(scope), "scope": scope} for scope in scopes
    }
    known = {"base_url": sandbox.base_url, "auth_url": sandbox.auth_url, "retry_backoff_factor": 0.001}
    return {**known, "pool": members, **settings}


@asynccontextmanager
async def client_of(table: dict[str, Any], **config: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A client of a gateway with that table, and its provider."""
    gateway = make_gateway(gigachat=table, static_keys={"keys": KEYS}, **config)
    limits = httpx.Limits(max_connections=CALLERS, keepalive_expiry=1)
    async with (
        serve(gateway) as url,
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client,
    ):
        yield client, gateway.providers["gigachat"]


async def ask(
    client: httpx.AsyncClient, key: str, *, stream: bool = False, text: str = "say 3 words"
) -> httpx.Response:
    body = {"model": "GigaChat-2", "messages": [{"role": "user", "content": text}], "stream": stream}
    headers = {"Authorization": f"Bearer {KEYS[key]}"}
    return await client.post("/v1/chat/completions", json=body, headers=headers)


async def test_two_hundred_callers_share_eleven_places(sandbox: RunningSandbox) -> None:
    """200 callers of ten equal keys, streaming and not, on 1 + 10 places: all are answered, the service never refuses a
    request, all places are used, and the keys' shares differ by a fifth at most. In the end all of them hang up, and no
    place is lost.
    """
    done: Counter[str] = Counter()
    enough = asyncio.Event()

    async def caller(number: int) -> None:
        key, stream = f"k{number % len(KEYS)}", number % 3 == 0
        body = {"model": "GigaChat-2", "messages": [{"role": "user", "content": TAKES_A_WHILE}], "stream": stream}
        headers = {"Authorization": f"Bearer {KEYS[key]}"}
        while True:
            async with session.post(f"{client.base_url}/v1/chat/completions", json=body, headers=headers) as answer:
                text = await answer.text()
                assert (answer.status, "word3" in text) == (200, True), text
            done[key] += 1
            if sum(done.values()) >= CALLS:
                enough.set()

    async with (
        client_of(pool_of(sandbox, PERS, B2B)) as (client, provider),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
        stopping = asyncio.create_task(enough.wait())
        await asyncio.wait([stopping, *callers], return_when=asyncio.FIRST_COMPLETED)
        assert stopping.done(), [task.exception() for task in callers if task.done()]
        counts, snapshot = dict(done), provider.snapshot()
        for task in callers:
            task.cancel()
        await asyncio.wait(callers)
        async with asyncio.timeout(20):
            while any(member.in_use for member in provider.snapshot().members) or provider.snapshot().waiting:
                await asyncio.sleep(0.01)
    assert sandbox.stats.refused_parallel == 0
    assert sandbox.stats.statuses.keys() == {200}
    assert (sandbox.stats.peak_parallel, sandbox.stats.parallel) == (11, 0)
    assert all(member.calls for member in snapshot.members)
    assert len(counts) == len(KEYS)
    assert max(counts.values()) / min(counts.values()) <= 1.2
    assert snapshot.waiting > CALLERS / 2
    assert snapshot.wait_seconds > 0


async def test_callers_who_leave_free_their_places(sandbox: RunningSandbox) -> None:
    """Half of the callers hang up in the middle of their streams: still no request is refused, and no place is lost."""
    async with client_of(pool_of(sandbox, PERS, B2B)) as (client, provider):

        async def caller(number: int) -> None:
            body = {
                "model": "GigaChat-2",
                "messages": [{"role": "user", "content": "say 60 words"}],
                "stream": True,
            }
            headers = {"Authorization": f"Bearer {KEYS['k0']}"}
            async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
                assert answer.status_code == 200
                async for _ in answer.aiter_bytes():
                    if number % 2:
                        return

        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(caller(number))
        async with asyncio.timeout(10):
            while any(member.in_use for member in provider.snapshot().members):
                await asyncio.sleep(0.01)
    assert sandbox.stats.refused_parallel == 0
    assert sandbox.stats.parallel == 0


async def test_one_credential_alone_waits_too(sandbox: RunningSandbox) -> None:
    """The form with a single credential knows the places of its scope: calls of a private person follow one another."""
    table = pool_of(sandbox) | {"credentials": sandbox.key(PERS), "scope": PERS}
    async with client_of(table) as (client, provider):
        answers = await asyncio.gather(*(ask(client, "k0") for _ in range(8)))
        (member,) = provider.snapshot().members
    assert {answer.status_code for answer in answers} == {200}
    assert (sandbox.stats.refused_parallel, sandbox.stats.peak_parallel) == (0, 1)
    assert (member.name, member.scope, member.slots, member.calls) == ("default", PERS, 1, 8)
    assert member.token_expires is not None


async def test_a_stream_that_began_with_a_new_token_keeps_its_place(sandbox: RunningSandbox) -> None:
    """A stream whose first request met a revoked token has the place until its last event: the next call waits for it,
    and the service never refuses one.
    """
    async with client_of(pool_of(sandbox, PERS)) as (client, provider):
        await ask(client, "k0")
        sandbox.sandbox.tokens.revoke_all()
        long = asyncio.create_task(ask(client, "k0", stream=True, text="say 600 words"))
        await until(lambda: sandbox.stats.statuses[401] and sandbox.stats.parallel)
        short = await ask(client, "k1")
        assert (await long).status_code == short.status_code == 200
        assert provider.snapshot().waited == 1
    assert sandbox.stats.refused_parallel == 0


async def test_a_full_queue_is_a_429_that_says_when(sandbox: RunningSandbox) -> None:
    """Beyond the queue's bound the client gets a 429 with ``Retry-After``, and no request goes to the service."""
    table = pool_of(sandbox, PERS, queue={"max_waiting": 1})
    async with client_of(table) as (client, provider):
        slow = [asyncio.create_task(ask(client, f"k{n}", stream=True, text="say 300 words")) for n in range(2)]
        async with asyncio.timeout(10):
            while provider.snapshot().waiting < 1:
                await asyncio.sleep(0.002)
        refused = await ask(client, "k2")
        answered = await asyncio.gather(*slow)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in answered] == [200, 200]
    assert sandbox.stats.requests["/chat/completions"] == 2


async def test_who_waited_is_told_how_long(sandbox: RunningSandbox) -> None:
    """``Server-Timing`` has the stage ``queue`` for a call that had to wait, and not for one that had not."""
    async with client_of(pool_of(sandbox, PERS)) as (client, _):
        alone = await ask(client, "k0")
        crowd = await asyncio.gather(*(ask(client, "k0", text=TAKES_A_WHILE) for _ in range(3)))
    assert "queue;" not in alone.headers["server-timing"]
    assert sum("queue;" in answer.headers["server-timing"] for answer in crowd) == 2


async def test_weights_give_larger_shares(sandbox: RunningSandbox) -> None:
    """Of calls that all wait, those of a key of weight 3 are answered three times as often as those of weight 1."""
    answered: list[str] = []
    table = pool_of(sandbox, B2B, queue={"weights": {"static:k1": 3}})
    async with client_of(table) as (client, provider):

        async def call(key: str) -> None:
            await ask(client, key)
            answered.append(key)

        async def hold() -> None:
            await ask(client, "k2", text="say 3 words [[fault: delay=30]]")

        holding = [asyncio.create_task(hold()) for _ in range(10)]
        await until(lambda: provider.snapshot().members[0].in_use == 10)
        async with asyncio.TaskGroup() as group:
            for number in range(64):
                group.create_task(call(f"k{number % 2}"))
            await until(lambda: provider.snapshot().waiting == 64)
            for task in holding:
                task.cancel()
    await asyncio.wait(holding)
    first = Counter(answered[:40])
    assert first["k1"] / first["k0"] == pytest.approx(3, rel=0.35)


async def test_a_revoked_credential_harms_no_call(sandbox: RunningSandbox) -> None:
    """With a credential that the service does not accept beside a good one, every call is answered."""
    table = pool_of(sandbox, B2B)
    table["pool"]["wrong"] = {"credentials": "bm9ib2R5Om5vdGhpbmc=", "scope": PERS, "parallel": 20}
    async with client_of(table) as (client, provider):
        for _ in range(5):
            assert (await ask(client, "k0")).status_code == 200
        health = {member.name: member.health for member in provider.snapshot().members}
    assert health == {"b2b": "good", "wrong": "refused"}
    assert sandbox.stats.requests["/oauth"] == 2


async def test_models_of_all_credentials_are_on_offer(sandbox: RunningSandbox) -> None:
    """The list has each model once, also while one of the credentials is refused."""
    table = pool_of(sandbox, PERS, B2B)
    table["pool"]["wrong"] = {"credentials": "bm9ib2R5Om5vdGhpbmc=", "scope": PERS}
    async with client_of(table, router={"default_provider": "gigachat"}) as (client, _):
        listed = (await client.get("/v1/models", headers={"Authorization": f"Bearer {KEYS['k0']}"})).json()["data"]
    names = [entry["id"] for entry in listed]
    assert "GigaChat-2" in names or "gigachat/GigaChat-2" in names
    assert len(names) == len(set(names))
