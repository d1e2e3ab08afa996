"""What becomes of calls while Redis is down, slow, flapping, or not the one it should be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from gatewaykit.errors import Unavailable
from gatewaykit.redislink import RedisLink, Script
from gatewaykit.testing.servers import RedisServer, redis_server, valkey_program

from .conftest import ECHO, PATIENT, Signpost, babbler, eventually, link_to

CONNECTIONS, FAILURES = 32, 3
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
    link = link_to(server.url, timeout=TIMEOUT, failures=FAILURES, cooldown=0.1, max_connections=CONNECTIONS)
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
    """Of hundreds of calls that find Redis frozen, those with a connection wait for it; the others are not tried, but
    for those that take the place of the few whose failures open the breaker.
    """
    async with short_of_patience(fragile) as link:
        fragile.freeze()
        found = await asyncio.gather(*(run(link) for _ in range(300)))
        assert all(isinstance(result, float) and result > 0 for result in found)
        assert link.counters.failed < CONNECTIONS + FAILURES
        fragile.thaw()
        await eventually_answered(link)
        assert link.busy == 0


async def test_a_failover_to_another_server(fragile: RedisServer, signpost: Signpost) -> None:
    """Once the address leads to another server, calls go there, though the first keeps its connections as a copy."""
    signpost.lead_to(fragile.socket)
    link = link_to(signpost.url, timeout=PATIENT, failures=1, cooldown=0.1)
    with redis_server(valkey_program()) as successor:
        async with link.lifespan():
            await asyncio.gather(*(link.put(f"before-{number}", b"x", 60) for number in range(8)))
            signpost.lead_to(successor.socket)
            await asyncio.to_thread(read_only, fragile)
            with pytest.raises(Unavailable):
                await link.put("meanwhile", b"x", 60)
            await eventually(lambda: not link.degraded)
            await asyncio.gather(*(link.put(f"after-{number}", b"x", 60) for number in range(8)))
            assert (link.counters.failed, link.counters.opened) == (1, 1)
        with successor.client() as client:
            assert {f"{link.prefix}after-{number}" for number in range(8)} <= set(client.scan_iter("*"))


async def test_each_connection_to_a_former_server_costs_one_call(fragile: RedisServer, signpost: Signpost) -> None:
    """Also where the breaker stays closed, no connection on which a server refused to write is asked again."""
    signpost.lead_to(fragile.socket)
    link = link_to(signpost.url, timeout=PATIENT, max_connections=1, failures=2)
    with redis_server(valkey_program()) as successor:
        async with link.lifespan():
            await link.put("before", b"x", 60)
            signpost.lead_to(successor.socket)
            await asyncio.to_thread(read_only, fragile)
            with pytest.raises(Unavailable):
                await link.put("meanwhile", b"x", 60)
            await link.put("after", b"x", 60)
            assert await link.get("after") == b"x"


@pytest.mark.parametrize("answer", [b"$abc\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_something_else_answers_for_a_while(
    fragile: RedisServer, signpost: Signpost, tmp_path: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no answer of Redis is a failure like any other, and ends nothing: Redis is used when it is back."""
    link = link_to(signpost.url, timeout=PATIENT, failures=2, cooldown=0.05)
    async with babbler(tmp_path / "babbler", answer) as asked, link.lifespan():
        signpost.lead_to(str(tmp_path / "babbler"))
        for _ in range(2):
            with pytest.raises(Unavailable):
                await link.run(ECHO, [], ["x"])
        assert "it does not answer as Redis does" in caplog.text
        await eventually(lambda: len(asked) >= 5)
        assert link.degraded
        signpost.lead_to(fragile.socket)
        await eventually(lambda: not link.degraded)
        assert await run(link) == b"x"


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
