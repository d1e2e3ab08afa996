"""How budgets begin to be counted while stores come and go and clocks differ; and that leases are renewed after all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gatewaykit import Target, Usage
from gatewaykit.builtin.limits import Books
from gatewaykit.builtin.limits.limiter import Limits
from gatewaykit.builtin.limits.plans import Estimator, Plans
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.errors import QuotaExhausted
from gatewaykit.limiting import Backend, MemoryBackend
from gatewaykit.limiting.guarded import GuardedBackend
from gatewaykit.limiting.redis import RedisBackend
from gatewaykit.limits import Limit, slicing
from gatewaykit.pricing import PriceBook, PriceSettings
from gatewaykit.protocols import GatewayContext
from gatewaykit.testing import make_call
from gatewaykit.testing.servers import RedisServer, redis_program, redis_server
from gatewaykit.testing.waiting import until
from gatewaykit.types import Attempt, Call

from ..limiting.conftest import Clock
from ..redis.conftest import link_to
from ..storage.conftest import storage_at
from ..usage.conftest import fill, sums

RUB = 1_000_000
PRICES = {"models": [{"model": "*", "currency": "RUB", "input": "0", "output": "0", "request": "10"}]}
SEATS, BUDGET = Limit("key:tests", "concurrency", 5, 0), Limit("key:tests", "money", 100 * RUB, "day")
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def limits_in(backend: Backend, spent: Callable[[Limit, float], Awaitable[int]]) -> Limits:
    """The limiter for five calls at a time and 100 RUB a day, where each call costs 10."""
    table = {"each_key": {"concurrency": 5, "budget": "100", "budget_period": "day"}}
    estimator = Estimator(PriceBook(PriceSettings.model_validate(PRICES)), output_tokens=100)
    return Limits(Plans(LimitsSettings.model_validate(table)), estimator, backend, spent, "RUB")


def call() -> Call:
    """A call that was tried at its target."""
    found, target = make_call(), Target("fake", "m")
    found.targets, found.attempts = (target,), [Attempt(target, 0.1)]
    return found


@pytest.fixture
def fragile() -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(redis_program()) as server:
        yield server


@asynccontextmanager
async def guarded(server: RedisServer) -> AsyncIterator[tuple[GuardedBackend, RedisBackend]]:
    """Redis under guard, and Redis itself for who can wait."""
    hasty, patient = link_to(server.url, timeout=0.2, cooldown=0.05), link_to(server.url, timeout=10)
    async with hasty.lifespan(), patient.lifespan():
        guard = GuardedBackend(RedisBackend(hasty), local=MemoryBackend())
        yield guard, RedisBackend(patient)
        await guard.aclose()


async def test_a_call_that_asks_again_holds_what_it_holds_once(fragile: RedisServer) -> None:
    """Redis hangs when a call asks under a budget, and is back when it asks again: what it was asked first is given
    back, and what the call was let in with is held until it ends, then counted as it was used.
    """

    async def spent(limit: Limit, begins: float) -> int:
        fragile.thaw()
        await looking.standings([limit])
        return 0

    async with guarded(fragile) as (guard, looking):
        await looking.seed(BUDGET, 0, slicing(BUDGET.span, time.time()).current)
        await guard.standings([BUDGET])
        fragile.freeze()
        permit = await limits_in(guard, spent).acquire(call())
        await until(lambda: guard.settled_late == 1)
        assert permit is not None
        assert [standing.used for standing in await looking.standings([SEATS, BUDGET])] == [1, 10 * RUB]
        await permit.settle(Usage(1, 1))
        assert [standing.used for standing in await looking.standings([SEATS, BUDGET])] == [0, 10 * RUB]
        with fragile.client() as client:
            assert not list(client.scan_iter("*holds*"))


@pytest.mark.parametrize("wrong", [-timedelta(seconds=30), timedelta(days=1, seconds=30)], ids=["behind", "ahead"])
async def test_the_books_are_asked_for_the_period_of_the_store(tmp_path: Path, wrong: timedelta) -> None:
    """A store whose clock is in another day than this machine's gets what was spent since its own day began."""
    url = f"sqlite:///{tmp_path}/books.db"
    yesterday, fixed = TODAY - timedelta(days=1), {"principal": "tests", "model": "test-model", "currency": "RUB"}
    fill(storage_at(url), "usage_days", *(sums(day, spend=45 * RUB, **fixed) for day in (yesterday, TODAY)))
    backend = MemoryBackend(clock=Clock((TODAY + wrong).timestamp()))
    async with (storage := storage_at(url)).lifespan():
        books = Books(cast(GatewayContext, SimpleNamespace(storage=storage)))
        limits = limits_in(backend, books.spent)
        assert await limits.acquire(call()) is not None
        spent = {-1: 90, 1: 0}[wrong.days or 1] * RUB
        assert [standing.used for standing in await backend.standings([BUDGET])] == [spent + 10 * RUB]
        if spent:
            with pytest.raises(QuotaExhausted):
                await limits.acquire(call())


async def test_a_day_that_begins_while_the_books_are_asked(tmp_path: Path) -> None:
    """What was spent in the day that is over is not the beginning of the next one: the books are asked once more."""
    clock, asked = Clock(TODAY.timestamp() - 0.001), list[float]()

    async def spent(limit: Limit, begins: float) -> int:
        asked.append(begins)
        clock.now = TODAY.timestamp()
        return 95 * RUB if begins < TODAY.timestamp() else 0

    backend = MemoryBackend(clock=clock)
    assert await limits_in(backend, spent).acquire(call()) is not None
    assert asked == [TODAY.timestamp() - 86_400, TODAY.timestamp()]
    assert [standing.used for standing in await backend.standings([BUDGET])] == [10 * RUB]


async def test_leases_are_renewed_whatever_happened_once(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the store that nobody expected is told by its type, and the next renewal is tried all the same."""

    class Defective(MemoryBackend):
        renewals = 0

        async def renew(self, holds: Any) -> None:
            self.renewals += 1
            if self.renewals == 1:
                raise ArithmeticError("unexpected")
            await super().renew(holds)

    async def spent(limit: Limit, begins: float) -> int:
        return 0

    backend = Defective(lease=0.05)
    limits = limits_in(backend, spent)
    async with limits.lifespan():
        permit = await limits.acquire(call())
        await until(lambda: backend.renewals >= 3)
        assert permit is not None
        await permit.release()
    assert "leases of 1 calls could not be renewed: ArithmeticError: unexpected" in caplog.text
