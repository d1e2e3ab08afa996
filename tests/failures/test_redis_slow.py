"""Redis hangs: its process is stopped, or its answers come late."""

from __future__ import annotations

import asyncio

import httpx

from gatewaykit.testing.servers import RedisServer

from .conftest import Log, Opener
from .page import Row
from .proxy import wire_to

PRICES = {"models": [{"model": "*", "input": 1, "output": 100}]}
WAIT = 0.3
"""``redis.timeout`` on the page."""


async def limits_beside(world: Opener, redis: RedisServer, policy: str, log: Log) -> list[httpx.Response]:
    """Nine calls under a limit of four, with Redis frozen after the first; then it goes on, and counts again.

    The first five wait for ``redis.timeout`` each; then it is left alone, and nobody waits.
    """
    async with world(
        None, redis.url, redis={"cooldown": 1.0, "timeout": WAIT}, limits={"on_failure": policy, "each_key": {"rpd": 4}}
    ) as it:
        await it.ask()
        redis.freeze()
        answers = await it.ask_times(9)
        assert len(log.lines("it is left alone and tried every")) == 1
        assert min(answer.elapsed.total_seconds() for answer in answers[5:]) < WAIT
        redis.thaw()
        await log.until("it answers again")
        assert (await it.ask()).status_code in {200, 429}
    return answers


async def test_redis_slow_limits_local(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """``local``: each process counts for itself, from nothing; so its limits hold."""
    answers = await limits_beside(world, redis, "local", log)
    row.holds(*answers)
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 5


async def test_redis_slow_limits_deny(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """``deny``: no call under a limit passes."""
    row.holds(*await limits_beside(world, redis, "deny", log))


async def test_redis_slow_limits_allow(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """``allow``: every call passes."""
    row.holds(*await limits_beside(world, redis, "allow", log))


async def test_redis_slow_budget(world: Opener, redis: RedisServer, row: Row) -> None:
    """What calls spent while it hung is counted there when it goes on, each of them once."""
    limits = {"each_key": {"budget": "0.1"}}  # each call costs 0.000203
    async with world(None, redis.url, redis={"timeout": WAIT}, limits=limits, prices=PRICES) as it:
        begun = budget_left(await it.ask())
        redis.freeze()
        answers = await it.ask_times(12)
        redis.thaw()
        row.holds(*answers)
        assert {answer.status_code for answer in answers} == {200}
        async with asyncio.timeout(60):
            while budget_left(await it.ask()) != begun - 203 * (len(it.calls) - 1):
                await asyncio.sleep(0.1)


def budget_left(answer: httpx.Response) -> int:
    """What remained of the budget after a call was let in, in millionths."""
    return int(answer.headers["ratelimit"].partition("r=")[2].partition(";")[0])


async def test_redis_slow_guesses(world: Opener, redis: RedisServer, row: Row) -> None:
    """Refusals do not wait for it, and guesses are counted in each process."""
    async with world(None, redis.url, auth_throttle={"failures": 3}) as it:
        redis.freeze()
        refused = await it.ask_times(4, "wrong")
        assert {answer.status_code for answer in refused} == {401}
        row.holds(await it.until_answered(429, lambda: it.ask("another")))
        redis.thaw()


async def test_redis_slow_start(world: Opener, redis: RedisServer, row: Row) -> None:
    """The gateway starts beside it, and is ready."""
    redis.freeze()
    async with asyncio.timeout(60):
        async with world(None, redis.url, limits={"each_key": {"rpd": 100}}) as it:
            row.holds(await it.ask(), await it.http.get("/readyz"))
    redis.thaw()


async def test_redis_delayed(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """Where each answer takes 20 ms, less than ``redis.timeout``, it goes on counting for all; calls take longer."""
    async with wire_to(redis.socket) as wire:
        limits = {"each_key": {"rpd": 100}}
        async with world(None, f"redis://127.0.0.1:{wire.port}", redis={"timeout": 10}, limits=limits) as it:
            await it.ask()
            wire.delay = 0.02
            row.holds(*await it.ask_times(4))
            assert (await it.ask()).headers["x-ratelimit-remaining-requests"] == "94"
    assert not log.lines("left alone")
