"""Redis is down: killed, or not there when the gateway starts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from gatewaykit.testing.servers import PostgresServer, RedisServer

from .conftest import Log, Opener
from .page import SLACK, Row

PATIENT = {"timeout": 5}
"""A Redis that is well is never too slow, however busy the machine is; one that is down says so at once."""

PRICES = {"models": [{"model": "*", "input": 1, "output": 100}]}


async def limits_without(world: Opener, redis: RedisServer, policy: str, log: Log) -> list[httpx.Response]:
    """Nine calls under a limit of four, with Redis killed after the first; then it is back, and counts again."""
    limits = {"on_failure": policy, "each_key": {"rpd": 4}}
    async with world(None, redis.url, redis=PATIENT, limits=limits) as it:
        assert (await it.ask()).headers["x-ratelimit-remaining-requests"] == "3"
        redis.kill()
        answers = await it.ask_times(9)
        redis.start()
        await log.until("it answers again")
        assert (await it.ask()).headers["x-ratelimit-remaining-requests"] == "3"
    assert len(log.lines("it is left alone and tried every")) == 1
    assert len(log.lines("it answers again")) == 1
    return answers


async def test_redis_down_limits_local(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """``local``: each process counts for itself, from nothing; so its limits hold."""
    answers = await limits_without(world, redis, "local", log)
    row.holds(*answers)
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 5


async def test_redis_down_limits_deny(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """``deny``: no call under a limit passes."""
    row.holds(*await limits_without(world, redis, "deny", log))


async def test_redis_down_limits_allow(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """``allow``: every call passes."""
    row.holds(*await limits_without(world, redis, "allow", log))


async def test_redis_down_no_limits(world: Opener, redis: RedisServer, row: Row) -> None:
    """Who is under no limit does not need it, whatever the policy."""
    async with world(None, redis.url, limits={"on_failure": "deny"}) as it:
        redis.kill()
        row.holds(*await it.ask_times(7))


async def test_redis_down_budget(
    world: Opener, redis: RedisServer, postgres: PostgresServer, postgres_url: str, row: Row
) -> None:
    """``local``: the budget begins with what the ledger says was spent, so that it is not there anew."""
    limits = {"each_key": {"budget": 0.01}}  # each call costs 0.0002, and may cost 0.0011
    async with world(postgres_url, redis.url, redis=PATIENT, limits=limits, prices=PRICES) as it:
        await it.ask_times(44)
        async with asyncio.timeout(60):
            while (await it.http.get("/v1/usage")).json()["total"]["requests"] < 44:
                await asyncio.sleep(0.05)
        redis.kill()
        answers = await it.ask_times(7)
    row.holds(*answers)
    assert {answer.status_code for answer in answers[-2:]} == {429}
    assert answers[-1].json()["error"]["code"] == "insufficient_quota"
    assert answers[-1].headers["x-should-retry"] == "false"


async def test_redis_down_new_key(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """Keys are in the database: making and looking up need no Redis."""
    async with world(postgres_url, redis.url) as it:
        redis.kill()
        row.holds(*[await it.ask(await it.key()) for _ in range(3)])


async def test_redis_down_revocation(world: Opener, redis: RedisServer, postgres_url: str, row: Row) -> None:
    """A key that is revoked at one gateway is refused by the other within ``keys.poll_seconds``, here 0.5."""
    keys = {"keys": {"poll_seconds": 0.5}}
    async with world(postgres_url, redis.url, **keys) as one, world(postgres_url, redis.url, **keys) as two:
        key = await one.key()
        assert (await two.ask(key)).status_code == 200
        redis.kill()
        (found,) = (await one.http.get("/api/admin/keys")).json()["items"]
        assert (await one.http.post(f"/api/admin/keys/{found['id']}/revoke", json={})).status_code == 200
        began = time.monotonic()
        row.holds(await one.ask(key), await two.until_answered(401, lambda: two.ask(key)))
        assert time.monotonic() - began < (0.5 + 0.5) * SLACK


async def test_redis_down_guesses(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """Wrong keys are counted in each process; nobody may guess without end. A key that is known here is not held up."""
    async with world(None, redis.url, auth_throttle={"failures": 3}) as it:
        await it.ask()
        redis.kill()
        for number in range(4):
            assert (await it.ask(f"wrong-{number}")).status_code == 401
        row.holds(await it.until_answered(429, lambda: it.ask("another")))
        assert (await it.ask()).status_code == 200
    assert len(log.lines("counts wrong keys for itself")) == 1


async def test_redis_down_readyz(world: Opener, redis: RedisServer, row: Row) -> None:
    """The gateway serves without it, and says so."""
    async with world(None, redis.url) as it:
        redis.kill()
        row.holds(await it.http.get("/readyz"), await it.http.get("/livez"))


async def test_redis_down_start(world: Opener, redis: RedisServer, row: Row, log: Log) -> None:
    """The gateway starts without it, and uses it when it comes."""
    redis.kill()
    limits: dict[str, Any] = {"each_key": {"rpd": 100}}
    async with world(None, redis.url, limits=limits) as it:
        row.holds(*await it.ask_times(6))
        redis.start()
        await log.until("it answers again")
        await it.ask()
    with redis.client() as client:
        assert list(client.scan_iter("{gatewaykit}:*"))
