"""Counting in Redis: exact over many callers and processes, and nothing is left behind."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time

import pytest

from gatewaykit.limiting import Charge
from gatewaykit.limiting.redis import RedisBackend
from gatewaykit.limits import Limit
from gatewaykit.redislink import RedisLink
from gatewaykit.testing.servers import RedisServer

from ..limiting.conftest import seed
from .conftest import PATIENT, eventually, link_to

LIMITS = (
    Limit("key:k", "requests", 1000, 60),
    Limit("key:k", "tokens", 100_000, 60),
    Limit("key:k", "concurrency", 1000, 0),
    Limit("key:k", "money", 10**9, "month"),
    Limit("user:u", "money", 10**9, "total"),
)
WORKER = """
import asyncio, json, sys
from gatewaykit.limiting import Charge
from gatewaykit.limiting.redis import RedisBackend
from gatewaykit.limits import Limit
from gatewaykit.redislink import RedisLink
from gatewaykit.settings import RedisSettings

async def main():
    link = RedisLink(RedisSettings(url=sys.argv[1], timeout=30))
    backend = RedisBackend(link)
    charges = [Charge(Limit("all", "requests", 100, 60), 1), Charge(Limit("all", "tokens", 10**6, 60), 7)]
    async with link.lifespan():
        print("ready", flush=True)
        sys.stdin.readline()
        found = await asyncio.gather(*(backend.reserve(f"{sys.argv[2]}-{n}", charges) for n in range(100)))
    print(sum(decision.taken for decision in found))

asyncio.run(main())
"""


@pytest.fixture
def backend(link: RedisLink) -> RedisBackend:
    """A backend on the clock of Redis."""
    return RedisBackend(link)


def charges(amount: int = 1) -> list[Charge]:
    """``amount`` of everything."""
    return [Charge(limit, amount) for limit in LIMITS]


async def begin(backend: RedisBackend) -> None:
    """Begin the calendar periods."""
    for limit in LIMITS:
        await seed(backend, limit, 0, time.time())


def held(amount: int = 1) -> list[Charge]:
    """What of it is held."""
    return [charge for charge in charges(amount) if charge.limit.held]


async def test_200_callers_on_a_budget_for_50(backend: RedisBackend) -> None:
    """Of 200 concurrent callers whose budget is enough for 50 calls exactly 50 pass, and nothing more is taken."""
    budget = Limit("key:k", "money", 50 * 1_000_000, "month")
    other = Limit("key:k", "requests", 10**6, 60)
    await seed(backend, budget, 0, time.time())
    found = await asyncio.gather(
        *(backend.reserve(f"h{n}", [Charge(budget, 1_000_000), Charge(other, 1)]) for n in range(200))
    )
    assert sum(decision.taken for decision in found) == 50
    assert [standing.used for standing in await backend.standings([budget, other])] == [50_000_000, 50]


async def test_three_processes_at_100_a_minute(server: RedisServer) -> None:
    """Of 300 parallel calls from three processes at 100 a minute exactly 100 pass."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, server.url, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await asyncio.to_thread(worker.stdout.readline) == "ready\n"
    answers = await asyncio.gather(*(asyncio.to_thread(worker.communicate, "go\n", 60) for worker in workers))
    assert sum(int(out) for out, _ in answers) == 100


async def test_a_decision_is_one_round_trip(server: RedisServer, backend: RedisBackend) -> None:
    """A reservation over five limits is one command, and so is its settlement."""
    await begin(backend)
    await backend.reserve("warm", charges())
    await backend.settle("warm", held())
    with server.client() as client:
        client.config_resetstat()
        await backend.reserve("h", charges())
        await backend.settle("h", held())
        found = client.info("commandstats")
    assert found["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in found


async def test_200_cancelled_reservations_leave_no_hold(server: RedisServer) -> None:
    """Callers that go away while they reserve leave no connection in use, and after the lease no hold."""
    link = link_to(server.url, timeout=PATIENT)
    backend = RedisBackend(link, lease=0.5)
    async with link.lifespan():
        await begin(backend)
        tasks = [asyncio.create_task(backend.reserve(f"h{n}", charges())) for n in range(200)]
        for task in tasks:
            await asyncio.sleep(random.choice((0, 0.0005)))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert link.busy == 0
        await asyncio.sleep(0.6)
        standings = await backend.standings(LIMITS)
        assert [standing.used for standing in standings[1:]] == [0, 0, 0, 0]
        with server.client() as client:
            assert [name for name in client.scan_iter("*") if name.endswith((":leases", ":holds"))] == []


async def test_thousands_of_ended_holds_are_swept_in_pieces(server: RedisServer, link: RedisLink) -> None:
    """However many holds have ended, one call takes out some hundreds; the next ones do the rest."""
    now = [1_800_000_000.0]
    backend = RedisBackend(link, clock=lambda: now[0])
    limit = Limit("key:k", "concurrency", 1200, 0)
    for at in range(0, 1200, 100):
        await asyncio.gather(*(backend.reserve(f"h{n}", [Charge(limit, 1)]) for n in range(at, at + 100)))
    now[0] += backend.lease
    with server.client() as client:
        left = [1200]
        while left[-1]:
            (standing,) = await backend.standings([limit])
            left.append(client.zcard(f"{link.prefix}leases"))
            assert standing.used == left[-1]
    assert left == [1200, 700, 200, 0]


async def test_every_key_ends(server: RedisServer, link: RedisLink, backend: RedisBackend) -> None:
    """Whatever is done, each key has a time to live, begins with the prefix, and outlives what counts in it."""
    await begin(backend)
    await backend.reserve("h", charges())
    assert (await backend.reserve("other", charges())).taken
    await backend.renew({"h": LIMITS[1:]})
    await backend.settle("h", held())
    await link.publish("news", b"x")
    with server.client() as client:
        lives = {name.removeprefix("{gatewaykit}:"): client.pttl(name) / 1000 for name in client.scan_iter("*")}
    assert lives.keys() == {"leases", "holds", "limits/key:k", "limits/user:u"}
    standings = await backend.standings(LIMITS)
    longest = max(standing.resets for standing in standings if standing.limit.subject == "key:k")
    assert longest < lives["limits/key:k"] < 32 * 86400
    for name in ("leases", "holds", "limits/user:u"):
        assert 300 * 86400 < lives[name] < 401 * 86400


async def test_idle_keys_disappear(server: RedisServer) -> None:
    """A limit of a second that nobody uses any more is gone soon after its lease."""
    link = link_to(server.url, timeout=PATIENT)
    backend = RedisBackend(link, lease=0.1)
    async with link.lifespan():
        await backend.reserve("h", [Charge(Limit("key:k", "tokens", 10, 1), 1)])
        with server.client() as client:
            await eventually(lambda: client.dbsize() == 0)


async def test_everything_is_forgotten_in_the_middle(server: RedisServer, backend: RedisBackend) -> None:
    """After FLUSHALL windows begin at nothing, periods ask to be seeded, and holds of before change nothing."""
    await begin(backend)
    assert (await backend.reserve("before", charges(5))).taken
    with server.client() as client:
        client.flushall()
    await backend.settle("before", held(9))
    await backend.renew({"before": LIMITS[1:]})
    assert [standing.used for standing in await backend.standings(LIMITS)] == [0] * 5
    assert (await backend.reserve("after", charges())).unseeded == (3, 4)
    await begin(backend)
    assert (await backend.reserve("after", charges())).taken


@pytest.mark.parametrize(
    "stored", [b"", b"no MessagePack", b"\xc1", b"\x2a"], ids=["nothing", "text", "never", "number"]
)
async def test_what_somebody_else_stored_counts_for_nothing(
    server: RedisServer, link: RedisLink, stored: bytes
) -> None:
    """Where a state or a hold is none of ours, limits begin anew, and calls pass."""
    now = [1_800_000_000.0]
    backend, limit = RedisBackend(link, clock=lambda: now[0]), Limit("key:k", "concurrency", 5, 0)
    await backend.reserve("h", [Charge(limit, 3)])
    with server.client() as client:
        client.set(f"{link.prefix}limits/key:k", stored)
        client.hset(f"{link.prefix}holds", "h", stored)
    assert (await backend.reserve("other", [Charge(limit, 5)])).taken
    now[0] += backend.lease
    assert (await backend.standings([limit]))[0].used == 0


async def test_scripts_are_forgotten_in_the_middle(server: RedisServer, backend: RedisBackend) -> None:
    """SCRIPT FLUSH between any two steps changes nothing for anybody."""
    with server.client() as client:
        await begin(backend)
        client.script_flush()
        assert (await backend.reserve("h", charges(5))).taken
        client.script_flush()
        await backend.renew({"h": LIMITS[1:]})
        client.script_flush()
        await backend.settle("h", held(3))
        client.script_flush()
        assert [standing.used for standing in await backend.standings(LIMITS)] == [5, 3, 0, 3, 3]


@pytest.mark.parametrize("huge", [2**53, 2**60, 10**30])
async def test_amounts_beyond_all_sense(backend: RedisBackend, huge: int) -> None:
    """Amounts that Lua cannot count exactly are taken for the largest it can: never for nothing, and no error."""
    tokens = Limit("key:k", "tokens", 10**9, 60)
    assert (await backend.reserve("a", [Charge(tokens, huge)])).refused == (0,)
    for hold in ("b", "c"):
        await backend.reserve(hold, [Charge(tokens, 0)])
    for hold in ("b", "c"):
        await backend.settle(hold, [Charge(tokens, huge)])
    assert (await backend.standings([tokens]))[0].used == 2**53
    assert (await backend.reserve("d", [Charge(tokens, 1)])).refused == (0,)


async def test_exact_up_to_the_largest_amount(backend: RedisBackend) -> None:
    """Amounts up to 2^53 are counted to the last unit."""
    budget = Limit("key:k", "money", 2**53 - 1, "total")
    await seed(backend, budget, 2**53 - 3, time.time())
    assert [(await backend.reserve(f"h{n}", [Charge(budget, 1)])).taken for n in range(3)] == [True, True, False]
    await backend.settle("h1", [Charge(budget, 0)])
    assert (await backend.standings([budget]))[0].used == 2**53 - 2


@pytest.mark.parametrize("days", [-40, 40])
async def test_a_machine_whose_clock_is_wrong(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """The period is that of Redis' clock, whatever this machine thinks: all processes count in the same one."""
    budget = Limit("key:k", "money", 100, "month")
    right = RedisBackend(backend._link)
    now = time.time()
    monkeypatch.setattr("gatewaykit.limiting.redis.time.time", lambda: now + days * 86400)
    await seed(backend, budget, 0, now + days * 86400)
    unseeded = await backend.reserve("g", [Charge(budget, 7)])
    assert unseeded.unseeded == (0,)
    assert abs(unseeded.now - now) < 60
    await seed(right, budget, 90, unseeded.now)
    await seed(backend, budget, 0, unseeded.now)
    assert (await backend.reserve("h", [Charge(budget, 7)])).taken
    (standing,) = await backend.standings([budget])
    assert standing.used == 97
    assert standing.resets <= 31 * 86400


async def test_hostile_names(server: RedisServer, link: RedisLink, backend: RedisBackend) -> None:
    """Names with braces, blanks, slashes, line breaks and zeros are names, and stay apart."""
    names = [
        "model:{x}",
        "model:a b",
        "model:a/tokens/60",
        "model:a\r\nFLUSHALL\r\n",
        "model:\0",
        "model:ж",
        "model:" + "m" * 9000,
    ]
    limits = [Limit(name, "tokens", 100, 60) for name in names]
    decision = await backend.reserve("{h} \r\n", [Charge(limit, at + 1) for at, limit in enumerate(limits)])
    assert decision.taken
    await backend.settle("{h} \r\n", [Charge(limit, at + 2) for at, limit in enumerate(limits)])
    assert [standing.used for standing in await backend.standings(limits)] == [at + 2 for at in range(len(limits))]
    with server.client() as client:
        assert all(name.startswith(link.prefix) for name in client.scan_iter("*"))


async def test_many_standings_and_renewals(backend: RedisBackend) -> None:
    """Thousands of limits and holds are handled in batches, all of them."""
    limits = [Limit(f"key:{n}", "concurrency", 5, 0) for n in range(450)]
    await asyncio.gather(*(backend.reserve(f"h{n}", [Charge(limit, 1)]) for n, limit in enumerate(limits)))
    await backend.renew({f"h{n}": [limit] for n, limit in enumerate(limits)})
    assert [standing.used for standing in await backend.standings(limits)] == [1] * 450
