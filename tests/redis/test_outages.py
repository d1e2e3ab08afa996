"""What becomes of calls while Redis is down, slow, flapping, or not the one it should be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from gatewaykit.errors import Unavailable
from gatewaykit.redislink import RedisLink, Script
from gatewaykit.testing.servers import RedisServer

from .conftest import ECHO, eventually, link_to

CONNECTIONS = 32
TIMEOUT = 0.25
SLACK = 1.0
AT_ONCE = 0.005


async def run(link: RedisLink) -> bytes | float:
    """The answer of one call, or in how many seconds it was refused."""
    begun = time.perf_counter()
    try:
        return bytes(await link.run(ECHO, [], ["x"]))
    except Unavailable as error:
        return time.perf_counter() - begun if error.retry_after else -1


@asynccontextmanager
async def short_of_patience(server: RedisServer) -> AsyncIterator[RedisLink]:
    """A link that gives up soon, and tries again soon."""
    link = link_to(server.url, timeout=TIMEOUT, failures=3, cooldown=0.1, max_connections=CONNECTIONS)
    async with link.lifespan():
        await eventually_answered(link)
        yield link


async def eventually_answered(link: RedisLink) -> None:
    """Return when a call was answered."""
    async with asyncio.timeout(15):
        while await run(link) != b"x":
            await asyncio.sleep(0.01)


def killed(server: RedisServer) -> Callable[[], None]:
    """It is killed; then it is started again."""
    server.kill()
    return server.start


def frozen(server: RedisServer) -> Callable[[], None]:
    """It is stopped; then it goes on."""
    server.freeze()
    return server.thaw


def locked(server: RedisServer) -> Callable[[], None]:
    """It asks for a password; then it does not any more."""
    with server.client() as client:
        client.config_set("requirepass", "sesame")
        client.client_kill_filter(_type="normal", skipme=True)

    def unlock() -> None:
        with redis.Redis.from_url(server.url, password="sesame") as other:
            other.config_set("requirepass", "")

    return unlock


def read_only(server: RedisServer) -> Callable[[], None]:
    """It becomes a copy that takes no writes, though it answers; then it is the original again."""
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)

    def promote() -> None:
        with server.client() as other:
            other.replicaof("NO", "ONE")

    return promote


@pytest.mark.parametrize("outage", [killed, frozen, locked, read_only])
async def test_an_outage_and_its_end(
    fragile: RedisServer, outage: Callable[[RedisServer], Callable[[], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Calls fail within the timeout, then at once; one line in the log for each, and nobody has to restart anything."""
    async with short_of_patience(fragile) as link:
        caplog.clear()
        end = await asyncio.to_thread(outage, fragile)
        writes = ("SET", f"{link.prefix}x", "1")
        while not link.degraded:
            took = await failing(link, *writes)
            assert took < TIMEOUT + SLACK
        assert min([await failing(link, *writes) for _ in range(50)]) < AT_ONCE
        assert link.counters.refused >= 50
        await asyncio.sleep(0.5)
        assert link.degraded
        assert len(caplog.records) == 1
        await asyncio.to_thread(end)
        await eventually(lambda: not link.degraded)
        assert await run(link) == b"x"
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        assert (link.counters.opened, link.counters.closed) == (1, 1)


async def failing(link: RedisLink, *command: Any) -> float:
    """In how many seconds a script that writes is refused."""
    begun = time.perf_counter()
    with pytest.raises(Unavailable):
        await link.run(Script("return redis.call(ARGV[1], KEYS[1], ARGV[3])"), [command[1]], list(command))
    return time.perf_counter() - begun


async def test_many_calls_at_once_into_a_frozen_redis(fragile: RedisServer) -> None:
    """Of hundreds of calls that find Redis frozen, those with a connection wait for it; all others are not tried."""
    async with short_of_patience(fragile) as link:
        fragile.freeze()
        found = await asyncio.gather(*(run(link) for _ in range(300)))
        assert all(isinstance(result, float) and result > 0 for result in found)
        assert link.counters.failed <= CONNECTIONS
        fragile.thaw()
        await eventually_answered(link)
        assert link.busy == 0


async def test_flapping(fragile: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """While Redis comes and goes every call is answered or refused in time, and an outage is two lines in the log."""
    async with short_of_patience(fragile) as link:
        caplog.clear()
        flapping = asyncio.create_task(asyncio.to_thread(flap, fragile))
        while not flapping.done():
            result = await run(link)
            assert result == b"x" or (isinstance(result, float) and 0 < result < TIMEOUT + SLACK)
            await asyncio.sleep(0.001)
        await flapping
        await eventually_answered(link)
        assert len(caplog.records) == link.counters.opened + link.counters.closed
        assert 1 <= link.counters.opened <= 10


def flap(server: RedisServer) -> None:
    """Go and come back, five times, in both ways."""
    for _ in range(5):
        server.kill()
        time.sleep(0.05)
        server.start()
        server.freeze()
        time.sleep(0.05)
        server.thaw()


async def test_a_refused_connection(unused_tcp_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing listens the first calls are refused, then all at once, and the address is in the log alone."""
    link = link_to(f"redis://user:sesame@127.0.0.1:{unused_tcp_port}/3", failures=2)
    async with link.lifespan():
        for _ in range(5):
            with pytest.raises(Unavailable) as caught:
                await link.run(ECHO, [], ["x"])
            assert str(unused_tcp_port) not in str(caught.value)
        assert link.degraded
        assert (link.counters.failed, link.counters.refused) == (2, 3)
    assert f"127.0.0.1:{unused_tcp_port}" in caplog.text
    assert "sesame" not in caplog.text + repr(link)


async def test_a_wrong_password(fragile: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Credentials that Redis refuses are said to be refused, and are not repeated anywhere."""
    with fragile.client() as client:
        client.config_set("requirepass", "right")
    link = link_to(fragile.url.replace("unix://", "unix://:sesame@"), failures=1)
    async with link.lifespan():
        with pytest.raises(Unavailable) as caught:
            await link.run(ECHO, [], ["x"])
    assert "refuses the credentials" in caplog.text
    assert "sesame" not in caplog.text + repr(link) + repr(caught.value) + repr(caught.value.__context__)


async def test_the_right_password(fragile: RedisServer) -> None:
    """The credentials and the database of the URL are used."""
    with fragile.client() as client:
        client.config_set("requirepass", "sesame")
    link = link_to(fragile.url.replace("unix://", "unix://:sesame@") + "?db=3", timeout=10)
    async with link.lifespan():
        assert await link.run(ECHO, [], ["x"]) == b"x"


async def test_a_restart_between_calls_costs_no_failure(fragile: RedisServer) -> None:
    """Connections that died while nobody used them are made anew, without an error for anybody."""
    link = link_to(fragile.url, timeout=10)
    async with link.lifespan():
        await asyncio.gather(*(run(link) for _ in range(30)))
        await asyncio.to_thread(fragile.kill)
        await asyncio.to_thread(fragile.start)
        assert await asyncio.gather(*(run(link) for _ in range(30))) == [b"x"] * 30
        assert link.counters.failed == 0
