"""Redis comes and goes while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gatewaykit.testing.servers import RedisServer

from .conftest import Opener
from .page import Row

TURNS = 6


@asynccontextmanager
async def flapping(redis: RedisServer) -> AsyncIterator[asyncio.Task[None]]:
    """Redis hangs, goes on, is killed and starts anew, some times; the task ends when it is over."""

    async def flap() -> None:
        for turn in range(TURNS):
            if turn % 2:
                await asyncio.to_thread(redis.kill)
                await asyncio.sleep(0.2)
                await asyncio.to_thread(redis.start)
            else:
                redis.freeze()
                await asyncio.sleep(0.2)
                redis.thaw()
            await asyncio.sleep(0.3)

    task = asyncio.create_task(flap())
    try:
        yield task
    finally:
        await task


async def test_redis_flapping_limits_local(world: Opener, redis: RedisServer, row: Row) -> None:
    """Calls pass or meet their limit, and nothing else; afterwards it is Redis that counts."""
    async with world(None, redis.url, limits={"each_key": {"rpm": 1000, "concurrency": 100}}) as it:
        async with flapping(redis) as flaps:
            while not flaps.done():
                row.holds(*await asyncio.gather(*(it.ask() for _ in range(5))))
                await asyncio.sleep(0.02)
        with redis.client() as client:
            async with asyncio.timeout(60):
                client.flushall()
                while not list(client.scan_iter("{gatewaykit}:*rpm*")) and not list(client.scan_iter("{gatewaykit}:*")):
                    row.holds(await it.ask())
                    await asyncio.sleep(0.02)


async def test_redis_flapping_limits_deny(world: Opener, redis: RedisServer, row: Row) -> None:
    """Calls pass or are told to come back."""
    async with world(None, redis.url, limits={"on_failure": "deny", "each_key": {"rpm": 100_000}}) as it:
        async with flapping(redis) as flaps:
            while not flaps.done():
                row.holds(*await asyncio.gather(*(it.ask() for _ in range(5))))
                await asyncio.sleep(0.02)
        await it.until_answered(200, it.ask)


async def test_redis_flapping_key_in_use(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Keys and their making do not notice."""
    async with world(postgres_url, redis.url) as it:
        key = await it.key()
        async with flapping(redis) as flaps:
            while not flaps.done():
                row.holds(await it.ask(key), await it.ask(await it.key()))
                await asyncio.sleep(0.05)
