"""Two gateways with the same GigaChat credentials, which count places together."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewaykit.testing import KEY, make_gateway, serve
from gatewaykit.testing.servers import RedisServer
from gatewaykit_gigachat.pool import SharedSlots
from gatewaykit_gigachat.sandbox import B2B, PERS, running_sandbox

CALLS = 60
BODY = {"model": "GigaChat-2", "messages": [{"role": "user", "content": "say 3 words [[fault: delay=0.1]]"}]}


@pytest.fixture(params=["redis", "database"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The sections that make several gateways count together."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_store")
        return {"redis": {"url": server.url, "prefix": f"places-{os.getpid()}", "timeout": 5.0}}
    return {"database": {"url": f"sqlite:///{tmp_path / 'shared.db'}"}}


async def test_gateways_share_the_places_of_their_credentials(shared: dict[str, Any]) -> None:
    """With 1 + 10 places and 40 callers at two gateways the service never refuses a request, both gateways get their
    calls through, and in the end no place is taken.
    """
    done: Counter[int] = Counter()
    with running_sandbox() as sandbox:
        members = {scope.lower(): {"credentials": sandbox.key(scope), "scope": scope} for scope in (PERS, B2B)}
        table = {"base_url": sandbox.base_url, "auth_url": sandbox.auth_url, "pool": members}
        table["store"] = "redis" if "redis" in shared else "database"
        async with AsyncExitStack() as stack:
            gateways = [make_gateway(gigachat=table, **shared) for _ in range(2)]
            urls = [await stack.enter_async_context(serve(gateway)) for gateway in gateways]
            client = await stack.enter_async_context(
                httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)
            )

            async def caller(number: int) -> None:
                while sum(done.values()) < CALLS:
                    answer = await client.post(f"{urls[number]}/v1/chat/completions", json=BODY)
                    assert answer.status_code == 200, answer.text
                    done[number] += 1

            async with asyncio.TaskGroup() as group:
                for number in range(40):
                    group.create_task(caller(number % 2))
            providers: Any = [gateway.providers["gigachat"] for gateway in gateways]
            assert [type(provider._places).__name__ for provider in providers] == ["GuardedBackend"] * 2
            for provider in providers:
                (pool,) = provider._pools.values()
                assert isinstance(pool._slots, SharedSlots)
                async with asyncio.timeout(10):
                    while any(member.taken_by_all or member.in_use for member in pool.members):
                        await pool._slots.look(pool.members)
                        await asyncio.sleep(0.01)
    assert sandbox.stats.refused_parallel == 0
    assert 1 < sandbox.stats.peak_parallel <= 11
    assert min(done[0], done[1]) > CALLS / 5
