"""The link: addresses, scripts, connections, event loops."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatewaykit.errors import ConfigError, Unavailable
from gatewaykit.redislink import RedisLink, Script
from gatewaykit.redislink.session import _LONGEST_QUEUE
from gatewaykit.settings import RedisSettings, TimeoutSettings
from gatewaykit.testing.servers import RedisServer

from .conftest import ECHO, PATIENT, eventually, link_to


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:secret",
        "redis://u:secret@h:port/0",
        "redis://u:secret@h/secret",
        "redis://u:secret@h/0?socket_timeout=60",
        "redis://u:secret@h/0?secret=1",
        "unix://",
        "rediss://u:secret@h?ssl_ca_certs=/nowhere/secret.pem",
        "rediss://u:secret@h?ssl_cert_reqs=secret",
    ],
)
def test_a_bad_url_is_a_fault_of_the_configuration(url: str) -> None:
    """A URL that cannot be used is refused by the name of its setting, and nothing of it is repeated."""
    with pytest.raises(ConfigError) as caught:
        link_to(url)
    (fault,) = caught.value.faults
    assert fault.where == "redis.url"
    assert "secret" not in str(caught.value)


def test_without_redis_py_the_fault_says_what_to_install() -> None:
    """Where redis-py is not installed the configuration is refused with the command that installs it."""
    program = """
import sys
sys.modules["redis"] = None
from gatewaykit.errors import ConfigError
from gatewaykit.redislink import RedisLink
from gatewaykit.settings import RedisSettings
try:
    RedisLink(RedisSettings(url="redis://127.0.0.1"))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "redis.url: redis is not installed: pip install 'gatewaykit[redis]'"


def test_nothing_of_redis_py_is_loaded_before_a_link_is_made() -> None:
    """Importing the link costs nothing to those who have no Redis."""
    program = "import sys, gatewaykit.redislink; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


async def test_it_starts_while_redis_is_down(tmp_path: Path) -> None:
    """Making and opening a link succeeds without a server; calls say that it is not available."""
    link = link_to(f"unix://{tmp_path}/nothing")
    async with link.lifespan():
        with pytest.raises(Unavailable) as caught:
            await link.run(ECHO, [], ["x"])
    assert caught.value.retry_after
    assert str(tmp_path) not in str(caught.value)


async def test_it_is_not_usable_outside_of_its_lifespan(server: RedisServer) -> None:
    """A call before the link is opened, or after, is refused."""
    link = link_to(server.url)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await link.run(ECHO, [], ["x"])
        async with link.lifespan(), link.lifespan():
            pass


async def test_the_inner_lifespan_does_not_close_the_outer(link: RedisLink) -> None:
    """A link entered twice is open until it has been left twice."""
    async with link.lifespan():
        pass
    assert await link.run(ECHO, [], ["x"]) == b"x"


async def test_a_script_is_one_round_trip(server: RedisServer, link: RedisLink) -> None:
    """The text of a script is sent once; then each run is one EVALSHA, and no other command goes along."""
    script = Script(f"return {random.random()}")
    await link.run(ECHO, [], ["connected"])
    with server.client() as client:
        client.config_resetstat()
        for _ in range(10):
            await link.run(script, [], [])
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    own = {name for name in calls if name.startswith("cmdstat_config")}
    assert {name: calls[name] for name in calls.keys() - own} == {"cmdstat_evalsha": 10, "cmdstat_eval": 1}


async def test_scripts_survive_being_forgotten(server: RedisServer, link: RedisLink) -> None:
    """After SCRIPT FLUSH the next run succeeds, and no failure is counted."""
    for _ in range(3):
        assert await link.run(ECHO, [], ["x"]) == b"x"
        with server.client() as client:
            client.script_flush()
    assert (link.counters.failed, link.degraded) == (0, False)


async def test_cancelled_calls_leave_no_connection_in_use(server: RedisServer) -> None:
    """200 calls cancelled at any point give back every connection, and the link goes on working."""
    link = link_to(server.url, timeout=PATIENT, max_connections=8)
    async with link.lifespan():
        for _ in range(4):
            tasks = [asyncio.create_task(link.run(ECHO, [], ["x"])) for _ in range(50)]
            for task in tasks:
                await asyncio.sleep(random.choice((0, 0, 0.0005)))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert link.busy == 0
        assert await asyncio.gather(*(link.run(ECHO, [], [str(n)]) for n in range(50))) == [
            b"%d" % n for n in range(50)
        ]
        with server.client() as client:
            assert len(client.client_list()) <= 8 + 1
        assert link.counters.failed == 0


async def test_answers_go_to_those_who_asked(link: RedisLink) -> None:
    """A connection on which a call was given up never hands its answer to another."""
    await link.run(ECHO, [], ["warm"])
    for number in range(100):
        given_up = asyncio.create_task(link.run(ECHO, [], ["old"]))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await link.run(ECHO, [], [str(number)]) == str(number).encode()


async def test_waiting_for_a_connection_is_bounded_and_no_failure(server: RedisServer) -> None:
    """Of many calls into a Redis whose answers take long, each is answered or, when it has waited for a connection as
    long as for an answer, refused; the breaker does not take that for Redis' fault.
    """
    link = link_to(server.url, timeout=0.6, max_connections=2, failures=1)
    async with link.lifespan():
        await asyncio.gather(*(link.run(ECHO, [], ["x"]) for _ in range(2)))
        slow = ("BLPOP", f"{link.prefix}nothing", "0.4")
        results = await asyncio.gather(*(link._here().call(*slow) for _ in range(40)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, Unavailable)]
        assert all(result.retry_after for result in refused)
        assert results.count(None) + len(refused) == 40
        assert 2 <= results.count(None) <= 4
        assert (link.counters.crowded, link.counters.failed) == (len(refused), 0)
        assert not link.degraded


def test_who_gets_no_connection_can_still_do_without() -> None:
    """At the defaults, waiting for a connection and then for an answer ends well before a plugin's time is over."""
    assert _LONGEST_QUEUE + RedisSettings().timeout < 0.6 * TimeoutSettings().hook


async def test_a_busy_event_loop_is_not_taken_for_a_slow_redis(server: RedisServer) -> None:
    """An answer that came in time, while this process was busy, counts as an answer."""
    link = link_to(server.url, timeout=0.2, failures=1)
    async with link.lifespan():
        await link.run(ECHO, [], ["warm"])
        for _ in range(3):
            task = asyncio.create_task(link.run(ECHO, [], ["x"]))
            await asyncio.sleep(0)
            time.sleep(0.3)
            assert await task == b"x"
        assert link.counters.failed == 0


async def test_a_burst_of_calls_in_a_busy_process(server: RedisServer) -> None:
    """Hundreds of calls at once, before any connection is open, are all answered.

    The process is busy with them for longer than it waits for Redis; that does not open the breaker.
    """

    async def call(number: int) -> bytes:
        time.sleep(0.003)
        return bytes(await link.run(ECHO, [], [str(number)]))

    link = link_to(server.url, timeout=0.5)
    async with link.lifespan():
        assert await asyncio.gather(*map(call, range(300))) == [b"%d" % number for number in range(300)]
        assert (link.counters.failed, link.counters.crowded) == (0, 0)


async def test_one_link_serves_two_event_loops(server: RedisServer, link: RedisLink) -> None:
    """Each event loop that enters the link has connections of its own, also in another thread."""

    async def elsewhere() -> bytes:
        async with link.lifespan():
            return bytes(await link.run(ECHO, [], ["there"]))

    assert await asyncio.to_thread(asyncio.run, elsewhere()) == b"there"
    assert await link.run(ECHO, [], ["here"]) == b"here"


async def test_connections_are_closed_with_the_lifespan(server: RedisServer) -> None:
    """When the link is left, the server has none of its connections any more."""
    link = link_to(server.url, timeout=PATIENT)
    with server.client() as client:
        before = len(client.client_list())
        async with link.lifespan():
            await asyncio.gather(*(link.run(ECHO, [], ["x"]) for _ in range(20)))
            assert len(client.client_list()) > before
        await eventually(lambda: len(client.client_list()) == before)
