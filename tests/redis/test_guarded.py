"""Limits while Redis is away: each policy, what becomes of holds, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gatewaykit.errors import Unavailable
from gatewaykit.limiting import Charge, MemoryBackend
from gatewaykit.limiting.guarded import GuardedBackend
from gatewaykit.limiting.redis import RedisBackend
from gatewaykit.limits import Limit
from gatewaykit.testing.servers import RedisServer

from ..limiting.conftest import Clock, seed
from .conftest import eventually, link_to

RPM = Limit("key:k", "requests", 10, 60)
TOKENS = Limit("key:k", "tokens", 1000, 60)
SEATS = Limit("key:k", "concurrency", 3, 0)
BUDGET = Limit("key:k", "money", 100, "month")


@asynccontextmanager
async def guarded(
    server: RedisServer, lease: float = 60.0, clock: Callable[[], float] | None = None, **options: Any
) -> AsyncIterator[GuardedBackend]:
    """Redis under guard, over a link that gives up soon and tries again soon."""
    link = link_to(server.url, timeout=0.25, failures=2, cooldown=0.1)
    local = MemoryBackend(lease=lease, clock=clock or time.time)
    guard = GuardedBackend(RedisBackend(link, lease=lease, clock=clock), local=local, **options)
    async with link.lifespan():
        await answered(lambda: guard._remote.standings([RPM]))
        yield guard
        await guard.aclose()


async def answered(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of Redis, once it has one."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.01)


async def passed(guard: GuardedBackend, limit: Limit, calls: int) -> int:
    """How many of so many calls are let in."""
    found = [await guard.reserve(f"h{time.perf_counter_ns()}", [Charge(limit, 1)]) for _ in range(calls)]
    return sum(decision.taken for decision in found)


async def back(guard: GuardedBackend, server: RedisServer) -> None:
    """Start Redis again, and wait until it decides."""
    await asyncio.to_thread(server.start)
    await answered(lambda: guard._remote.standings([RPM]))
    await guard.reserve("back", [Charge(RPM, 0)])
    assert not guard.degraded


async def used(guard: GuardedBackend, *limits: Limit) -> list[int]:
    """What Redis has counted."""
    standings = await answered(lambda: guard._remote.standings(limits))
    return [standing.used for standing in standings]


async def test_each_process_counts_for_itself(fragile: RedisServer) -> None:
    """Policy local: the same limits hold in this process, from nothing, exactly; afterwards Redis counts again."""
    changes: list[bool] = []
    async with guarded(fragile, on_change=changes.append) as guard:
        assert await passed(guard, RPM, 12) == 10
        await asyncio.to_thread(fragile.kill)
        assert await passed(guard, RPM, 12) == 10
        assert (guard.degraded, guard.decided_alone) == (True, 12)
        assert (await guard.standings([RPM]))[0].used == 10
        await back(guard, fragile)
        assert await passed(guard, RPM, 12) == 10
    assert changes == [True, False]


async def test_amounts_are_divided_among_instances(fragile: RedisServer) -> None:
    """With four instances each lets in a fourth, says so, and at least one."""
    async with guarded(fragile, instances=4) as guard:
        await asyncio.to_thread(fragile.kill)
        first = await guard.reserve("h", [Charge(RPM, 1)])
        assert (first.standings[0].limit, first.standings[0].remaining) == (RPM, 1)
        assert await passed(guard, RPM, 5) == 1
        assert await passed(guard, SEATS, 5) == 1
        assert [standing.remaining for standing in await guard.standings([RPM, SEATS])] == [0, 0]
        assert await passed(guard, Limit("key:shut", "requests", 0, 60), 1) == 0


async def test_everything_is_refused(fragile: RedisServer) -> None:
    """Policy deny: every decision raises, with the time after which to come back; then Redis decides again."""
    async with guarded(fragile, policy="deny") as guard:
        await asyncio.to_thread(fragile.kill)
        asked: list[Callable[[], Awaitable[Any]]] = [
            lambda: guard.reserve("h", [Charge(RPM, 1)]),
            lambda: guard.standings([RPM]),
            lambda: seed(guard, BUDGET, 1, time.time()),
        ]
        for ask in asked:
            with pytest.raises(Unavailable) as caught:
                await ask()
            assert caught.value.retry_after
        await back(guard, fragile)
        assert await passed(guard, RPM, 12) == 10


async def test_everything_passes(fragile: RedisServer) -> None:
    """Policy allow: everything passes while Redis is away, and nothing after it."""
    async with guarded(fragile, policy="allow") as guard:
        await asyncio.to_thread(fragile.kill)
        assert await passed(guard, RPM, 30) == 30
        assert (await guard.reserve("h", [Charge(BUDGET, 10**6), Charge(SEATS, 1)])).taken
        assert (await guard.standings([BUDGET]))[0].used == 0
        await guard.settle("h", [Charge(BUDGET, 5), Charge(SEATS, 1)])
        await back(guard, fragile)
        assert await passed(guard, RPM, 12) == 10


@pytest.mark.parametrize("policy", ["local", "deny", "allow"])
async def test_a_decision_without_redis_is_quick(fragile: RedisServer, policy: Any) -> None:
    """While the breaker is open, over a Redis that is frozen, a decision takes less than five milliseconds."""
    async with guarded(fragile, policy=policy) as guard:
        fragile.freeze()
        times: list[float] = []
        for number in range(60):
            begun = time.perf_counter()
            try:
                await guard.reserve(f"h{number}", [Charge(RPM, 1), Charge(TOKENS, 5), Charge(SEATS, 1)])
            except Unavailable:
                assert policy == "deny"
            times.append(time.perf_counter() - begun)
        assert max(times) < 1.0
        assert sorted(times)[len(times) // 2] < 0.005
        fragile.thaw()


async def test_holds_are_settled_where_they_were_taken(fragile: RedisServer) -> None:
    """A hold of this process is settled here, though Redis is back; one of Redis there, though it was away since.

    What Redis was asked while it was frozen, and does when it goes on, is taken back.
    """
    async with guarded(fragile) as guard:
        await guard.reserve("there", [Charge(TOKENS, 100), Charge(SEATS, 1)])
        fragile.freeze()
        assert (await guard.reserve("here", [Charge(TOKENS, 500), Charge(SEATS, 1)])).taken
        await guard.renew({"here": [TOKENS, SEATS], "there": [TOKENS, SEATS]})
        assert guard.lost == 1
        fragile.thaw()
        await eventually(lambda: guard.settled_late)
        assert await used(guard, TOKENS, SEATS) == [100, 1]
        await guard.settle("here", [Charge(TOKENS, 400), Charge(SEATS, 1)])
        await guard.settle("there", [Charge(TOKENS, 30), Charge(SEATS, 1)])
        assert await used(guard, TOKENS, SEATS) == [30, 0]
        assert [standing.used for standing in await guard._local.standings([TOKENS, SEATS])] == [400, 0]


async def test_what_could_not_be_settled_is_settled_later(fragile: RedisServer) -> None:
    """Settling while Redis is frozen raises nothing; when it goes on, each hold is settled, without anybody asking."""
    async with guarded(fragile) as guard:
        for number in range(3):
            await guard.reserve(f"h{number}", [Charge(TOKENS, 100), Charge(SEATS, 1)])
        fragile.freeze()
        for number in range(3):
            await guard.settle(f"h{number}", [Charge(TOKENS, number), Charge(SEATS, 1)])
        fragile.thaw()
        await eventually(lambda: guard.settled_late == 3)
        assert await used(guard, TOKENS, SEATS) == [0 + 1 + 2, 0]
        assert guard.lost == 0


async def test_what_is_too_late_is_given_up(fragile: RedisServer) -> None:
    """A settlement that Redis does not take within a lease is dropped and counted: the hold has ended by itself."""
    async with guarded(fragile, lease=0.5) as guard:
        await guard.reserve("h", [Charge(TOKENS, 100)])
        fragile.freeze()
        await guard.settle("h", [Charge(TOKENS, 7)])
        await eventually(lambda: guard.lost == 1)
        fragile.thaw()
        assert await used(guard, TOKENS) == [0]


async def test_a_cancelled_caller_keeps_nothing(fragile: RedisServer) -> None:
    """What callers reserved who went away meanwhile is given back long before its lease ends."""
    async with guarded(fragile) as guard:
        seats = Limit("key:k", "concurrency", 1000, 0)
        tasks = {f"h{n}": asyncio.create_task(guard.reserve(f"h{n}", [Charge(seats, 1)])) for n in range(200)}
        for number, task in enumerate(tasks.values()):
            await asyncio.sleep(0 if number % 2 else 0.0005)
            task.cancel()
        await asyncio.wait(tasks.values())
        for hold, task in tasks.items():
            if not task.cancelled():
                await guard.settle(hold, [Charge(seats, 1)])
        assert any(task.cancelled() for task in tasks.values())
        await eventually(lambda: not guard._late)
        assert await used(guard, seats) == [0]


async def test_budgets_begin_anew_in_each_outage(fragile: RedisServer) -> None:
    """In each outage a budget is seeded anew, for what was spent while Redis counted is not known here."""
    async with guarded(fragile) as guard:
        for spent in (0, 95):
            await asyncio.to_thread(fragile.kill)
            assert (await guard.reserve("h", [Charge(BUDGET, 1)])).unseeded == (0,)
            await seed(guard, BUDGET, spent, time.time())
            assert (await guard.reserve("h", [Charge(BUDGET, 5)])).taken
            assert (await guard.standings([BUDGET]))[0].used == spent + 5
            await guard.settle("h", [Charge(BUDGET, 5)])
            await back(guard, fragile)
        assert (await guard.reserve("h", [Charge(BUDGET, 1)])).unseeded == (0,)
        await seed(guard, BUDGET, 100, time.time())
        assert (await guard.reserve("h", [Charge(BUDGET, 1)])).refused == (0,)


async def caught_up(guard: GuardedBackend) -> None:
    """Nothing is left to be settled or counted in Redis."""
    await eventually(lambda: guard._settling is None or guard._settling.done())


async def spend(guard: GuardedBackend, limit: Limit, *amounts: int) -> None:
    """Let a call in for each amount, and use that."""
    for amount in amounts:
        hold = f"h{time.perf_counter_ns()}"
        assert (await guard.reserve(hold, [Charge(limit, 1)])).taken
        await guard.settle(hold, [Charge(limit, amount)])


@pytest.mark.parametrize("policy", ["local", "allow"])
async def test_what_was_spent_meanwhile_is_counted_in_the_end(fragile: RedisServer, policy: Any) -> None:
    """What calls used of a budget while Redis hung is counted there when it goes on, once, whoever let them in."""
    async with guarded(fragile, policy=policy) as guard:
        await seed(guard, BUDGET, 0, time.time())
        await spend(guard, BUDGET, 5)
        for _ in range(2):
            fragile.freeze()
            assert (await guard.standings([BUDGET]))[0].used == 0
            await seed(guard, BUDGET, 0, time.time())
            await spend(guard, BUDGET, 10, 7, 3)
            fragile.thaw()
            await caught_up(guard)
            await answered(lambda: guard._remote.standings([BUDGET]))
            await guard.reserve("back", [Charge(RPM, 0)])
        assert await used(guard, BUDGET) == [5 + 2 * 20]


@pytest.mark.parametrize("ends", ["meanwhile", "afterwards"])
async def test_what_nobody_could_renew_is_counted_all_the_same(fragile: RedisServer, ends: str) -> None:
    """A call whose lease ended in an outage is counted under its budget, whether it ends in it or after it."""
    async with guarded(fragile, lease=0.5) as guard:
        await seed(guard, BUDGET, 0, time.time())
        await guard.reserve("long", [Charge(BUDGET, 10)])
        over = time.monotonic() + 0.5
        fragile.freeze()
        if ends == "meanwhile":
            await guard.settle("long", [Charge(BUDGET, 7)])
        await eventually(lambda: time.monotonic() > over and not guard._late)
        fragile.thaw()
        await answered(lambda: guard._remote.renew({"long": [BUDGET]}))
        if ends == "afterwards":
            await guard.settle("long", [Charge(BUDGET, 7)])
        await caught_up(guard)
        assert await used(guard, BUDGET) == [7]


async def test_what_the_books_know_is_not_counted_again(fragile: RedisServer) -> None:
    """A Redis that has lost its data begins with what the books say: what was spent meanwhile is in that."""
    async with guarded(fragile) as guard:
        await seed(guard, BUDGET, 0, time.time())
        await asyncio.to_thread(fragile.kill)
        await guard.standings([BUDGET])
        await seed(guard, BUDGET, 0, time.time())
        await spend(guard, BUDGET, 20)
        await back(guard, fragile)
        assert (await guard.reserve("h", [Charge(BUDGET, 1)])).unseeded == (0,)
        await seed(guard, BUDGET, 20, time.time())
        await caught_up(guard)
        assert await used(guard, BUDGET) == [20]


async def test_what_was_spent_in_a_period_that_is_over_is_not_counted_in_the_next(fragile: RedisServer) -> None:
    """Neither in the next one, nor where the clock of Redis is in one that has not come yet here."""
    clock = Clock()
    async with guarded(fragile, clock=clock) as guard:
        await seed(guard, BUDGET, 0, clock.now)
        fragile.freeze()
        await guard.standings([BUDGET])
        await seed(guard, BUDGET, 0, clock.now)
        await spend(guard, BUDGET, 20)
        clock.advance(31 * 86_400)
        fragile.thaw()
        await answered(lambda: guard._remote.standings([BUDGET]))
        await answered(lambda: seed(guard._remote, BUDGET, 4, clock.now))
        await caught_up(guard)
        assert await used(guard, BUDGET) == [4]


async def test_requests_of_a_day_are_counted_in_the_end(fragile: RedisServer) -> None:
    """A calendar limit on what is counted at once, and never settled, gets what passed meanwhile, too."""
    daily = Limit("key:k", "requests", 100, "day")
    async with guarded(fragile) as guard:
        await seed(guard, daily, 0, time.time())
        fragile.freeze()
        await guard.standings([daily])
        await seed(guard, daily, 0, time.time())
        assert await passed(guard, daily, 6) == 6
        fragile.thaw()
        await caught_up(guard)
        assert await used(guard, daily) == [6]


async def test_one_of_two_event_loops_may_end() -> None:
    """Who closes the guard in one loop leaves the task alone that settles in another, in which the gateway goes on."""

    class Away(MemoryBackend):
        async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
            raise Unavailable(retry_after=1.0)

    guard = GuardedBackend(Away(), local=MemoryBackend())
    await guard.reserve("h", [Charge(TOKENS, 5)])
    await guard.settle("h", [Charge(TOKENS, 3)])
    task = guard._settling
    assert task is not None
    await asyncio.to_thread(lambda: asyncio.run(guard.aclose()))
    assert not task.cancelling()
    assert not task.done()
    await guard.aclose()
    assert task.cancelled()


async def test_a_flapping_redis(fragile: RedisServer) -> None:
    """While Redis comes and goes each decision is made, each hold is settled, and afterwards nothing is held."""
    async with guarded(fragile) as guard:
        flapping = asyncio.create_task(asyncio.to_thread(flap, fragile))
        number = 0
        while not flapping.done():
            number += 1
            seat = Limit(f"key:{number}", "concurrency", 1, 0)
            assert (await guard.reserve(f"h{number}", [Charge(seat, 1)])).taken
            await guard.settle(f"h{number}", [Charge(seat, 1)])
            await asyncio.sleep(0.001)
        await flapping
        await eventually(lambda: not guard._late and not guard._holds)
        assert await used(guard, *(Limit(f"key:{n}", "concurrency", 1, 0) for n in range(number))) == [0] * number


def flap(server: RedisServer) -> None:
    """Freeze and go on, five times."""
    for _ in range(5):
        server.freeze()
        time.sleep(0.4)
        server.thaw()
        time.sleep(0.2)
