"""The pool with members that need no network: who gets a place, who waits, who leaves and returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from gatewaykit.errors import (
    BadRequest,
    GatewayError,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderBusy,
    ProviderDenied,
    ProviderUnavailable,
    ProviderUnpaid,
)
from gatewaykit_gigachat.pool import Ask, Lease, Member, Pool, PoolBusy, QueueBounds, WatchTimes

MODEL = "GigaChat-2"
QUICK = WatchTimes(first_probe=0.001, longest_probe=0.004, balance=0.005)


class Account:
    """A connection that answers as it is told: ``refusal`` is raised by probes, ``left`` is the balance."""

    scope = "GIGACHAT_API_B2B"
    token_expires: float | None = None
    token_failures: Mapping[str, int] = MappingProxyType({})
    certificate_expires: float | None = None
    trust_expires: float | None = None

    def __init__(self, name: str) -> None:
        self.shared_name = name
        self.refusal: GatewayError | None = None
        self.left: Mapping[str, int] | None = {}
        self.probes = 0
        self.balances = 0

    async def probe(self) -> None:
        self.probes += 1
        if self.refusal is not None:
            raise self.refusal

    async def balance(self) -> Mapping[str, int]:
        self.balances += 1
        if self.left is None:
            raise ProviderDenied
        return self.left


@asynccontextmanager
async def pool_of(times: WatchTimes = QUICK, /, **slots: int) -> AsyncIterator[Pool]:
    """A pool whose members have so many places, with probes in quick succession."""
    nothing: Any = None
    made: Any = {name: Account(name) for name in slots}
    pool = Pool(
        [Member(name, made[name], nothing, slots=number) for name, number in slots.items()],
        bounds=QueueBounds(longest=4, longest_line=3, max_wait=30),
        times=times,
    )
    try:
        yield pool
    finally:
        await pool.aclose()


def account(pool: Pool, name: str) -> Account:
    found: Any = next(member.connection for member in pool.members if member.name == name)
    return found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def waiting(pool: Pool, *keys: str) -> list[asyncio.Task[Lease]]:
    return [asyncio.create_task(pool.lease(Ask(key, MODEL))) for key in keys]


async def failing(pool: Pool, error: GatewayError, *, first: str = "") -> list[str]:
    """Whom a call asked, of whom all answer ``error``, or only ``first``."""
    asked: list[str] = []

    async def use(lease: Lease) -> str:
        asked.append(lease.member.name)
        if not first or lease.member.name == first:
            raise error
        lease.end()
        return lease.member.name

    with suppress(type(error)):
        await pool.run(Ask("key", MODEL), use)
    return asked


async def test_calls_go_to_the_freest() -> None:
    """The next call goes where the smallest share of places is taken; one place alone is the last to be taken."""
    async with pool_of(one=1, four=4, two=2) as pool:
        names = [(await pool.lease(Ask("key", MODEL))).member.name for _ in range(7)]
        assert names == ["four", "two", "four", "four", "one", "two", "four"]
        assert [member.in_use for member in pool.members] == [1, 4, 2]


async def test_a_place_that_is_free_goes_to_who_waits() -> None:
    """A call that waits gets the next place, and its ask tells its position and how long it waited."""
    async with pool_of(one=1) as pool:
        first = await pool.lease(Ask("a", MODEL))
        ask = Ask("b", MODEL)
        second = asyncio.create_task(pool.lease(ask))
        await until(lambda: pool.snapshot().waiting)
        assert pool.snapshot().oldest_wait > 0
        first.end()
        first.end()
        assert (await second).member.name == "one"
        assert (ask.position, ask.waited > 0) == (1, True)
        assert pool.members[0].in_use == 1
        assert (pool.snapshot().waited, pool.snapshot().waiting) == (1, 0)


async def test_who_waits_gets_a_member_that_may_be_asked_again() -> None:
    """A member that was left alone for a time serves who waits when that time is over, though no call has ended."""
    async with pool_of(one=1, two=1) as pool:
        await pool.lease(Ask("a", MODEL))
        pool.members[1].failed(MODEL, ProviderBusy(retry_after=0.05))
        async with asyncio.timeout(10):
            assert (await pool.lease(Ask("b", MODEL))).member.name == "two"


@pytest.mark.parametrize("refusals", [1, 2])
async def test_who_was_refused_waits_for_any_member(refusals: int) -> None:
    """A call that a busy member refused waits for the others and for that one, which is asked once more at most."""
    async with pool_of(one=1, two=1) as pool:
        await pool.lease(Ask("a", MODEL))
        asked: list[str] = []

        async def use(lease: Lease) -> str:
            asked.append(lease.member.name)
            if len(asked) <= refusals:
                raise ProviderBusy(retry_after=0.05)
            lease.end()
            return lease.member.name

        async with asyncio.timeout(10):
            if refusals == 1:
                assert await pool.run(Ask("b", MODEL), use) == "two"
            else:
                with pytest.raises(ProviderBusy):
                    await pool.run(Ask("b", MODEL), use)
        assert asked == ["two", "two"]


async def test_the_place_of_a_call_that_was_refused_goes_to_nobody_else_yet() -> None:
    """A call that waits is not handed the place that the service has just refused a call at, while there is another."""
    async with pool_of(one=1, two=1) as pool:
        held = await pool.lease(Ask("a", MODEL))
        waiters: list[asyncio.Task[Lease]] = []

        async def use(lease: Lease) -> str:
            waiters.extend(waiting(pool, "b"))
            await until(lambda: pool.snapshot().waiting)
            raise ProviderBusy(retry_after=20)

        running = asyncio.create_task(pool.run(Ask("c", MODEL), use))
        await until(lambda: pool.snapshot().waiting == 2)
        held.end()
        assert (await waiters[0]).member.name == "one"
        running.cancel()
        await asyncio.wait([running])


async def test_a_member_that_leaves_as_it_comes_back_is_probed_again() -> None:
    """A credential that is refused in the very moment in which its probe succeeds returns all the same, by another."""
    async with pool_of(one=1, two=1) as pool:
        member, connection = pool.members[0], account(pool, "one")
        calls: list[asyncio.Task[list[str]]] = []

        async def probe() -> None:
            connection.probes += 1
            if connection.probes == 1:
                calls.append(asyncio.create_task(failing(pool, ProviderAuthFailed(), first="one")))

        vars(connection)["probe"] = probe
        await failing(pool, ProviderAuthFailed(), first="one")
        await until(lambda: connection.probes > 1)
        await until(lambda: member.is_good)
        await asyncio.gather(*calls)


async def test_a_full_queue_says_when_to_come_back() -> None:
    """Beyond either bound a call is refused at once, with the time that the queue needs at the pace it has."""
    async with pool_of(one=1, other=1) as pool:
        held = [await pool.lease(Ask("a", MODEL)) for _ in range(2)]
        for lease in held:
            lease.began -= 32.0
        for lease in held:
            lease.end()
        pace = vars(pool)["_usual_seconds"]
        assert pace == pytest.approx(4.8, abs=0.3)
        held = [await pool.lease(Ask("a", MODEL)) for _ in range(2)]
        tasks = waiting(pool, "a", "a", "a")
        await until(lambda: pool.snapshot().waiting == 3)
        with pytest.raises(PoolBusy) as of_key:
            await pool.lease(Ask("a", MODEL))
        tasks += waiting(pool, "b")
        await until(lambda: pool.snapshot().waiting == 4)
        with pytest.raises(PoolBusy) as of_all:
            await pool.lease(Ask("c", MODEL))
        assert of_key.value.retry_after == pytest.approx(4 * pace / 2)
        assert of_all.value.retry_after == pytest.approx(5 * pace / 2)
        assert (of_all.value.status, of_all.value.retryable, of_all.value.fallback) == (429, False, True)
        assert pool.snapshot().refused_full == 2
        for lease in held:
            lease.end()
        for task in asyncio.as_completed(tasks):
            (await task).end()


async def test_patience_has_an_end() -> None:
    """A call that got no place in time is refused with 429, and its place in the queue is free."""
    async with pool_of(one=1) as pool:
        pool._bounds = QueueBounds(max_wait=0.01)
        lease = await pool.lease(Ask("a", MODEL))
        with pytest.raises(PoolBusy):
            await pool.lease(Ask("b", MODEL))
        assert (pool.snapshot().waiting, pool.snapshot().refused_late) == (0, 1)
        lease.end()
        assert pool.members[0].in_use == 0


@pytest.mark.parametrize("given", [False, True])
async def test_who_leaves_the_queue_takes_no_place_along(given: bool) -> None:
    """A call that is cancelled while it waits, or in the moment in which it is given a place, holds none."""
    async with pool_of(one=1) as pool:
        lease = await pool.lease(Ask("a", MODEL))
        (task,) = waiting(pool, "b")
        await until(lambda: pool.snapshot().waiting)
        if given:
            lease.end()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        lease.end()
        assert (pool.members[0].in_use, pool.snapshot().waiting, pool.snapshot().left) == (0, 0, 1)
        (await pool.lease(Ask("c", MODEL))).end()


async def test_the_place_of_a_broken_off_answer_is_free_a_little_later() -> None:
    """The service has to notice that nobody reads: until then the place counts as taken, and then is free by itself."""
    async with pool_of(one=1) as pool:
        (await pool.lease(Ask("a", MODEL))).end(whole=False)
        assert pool.members[0].in_use == 1
        (await pool.lease(Ask("a", MODEL))).end()
        assert pool.members[0].in_use == 0


@pytest.mark.parametrize("error", [ProviderAuthFailed, ProviderUnpaid, ProviderDenied, ModelNotFound, ProviderBusy])
async def test_what_is_one_credentials_matter_is_tried_with_another(error: type[GatewayError]) -> None:
    """A call that one credential is refused goes on with another, and the next call does not ask the first again."""
    async with pool_of(big=10, small=1) as pool:
        account(pool, "big").refusal = ProviderAuthFailed()
        assert await failing(pool, error(), first="big") == ["big", "small"]
        assert await failing(pool, error(), first="big") == ["small"]


@pytest.mark.parametrize("error", [BadRequest, ProviderUnavailable])
async def test_what_no_credential_can_help_is_told_at_once(error: type[GatewayError]) -> None:
    """A bad request, or a service that is down, is not asked about again with every credential."""
    async with pool_of(big=10, small=1) as pool:
        assert await failing(pool, error()) == ["big"]


async def test_a_lack_is_of_one_model() -> None:
    """Without tokens for one model a credential still answers with others, and with any build of them."""
    async with pool_of(big=10, small=1) as pool:
        await failing(pool, ProviderUnpaid(), first="big")
        big = pool.members[0]
        assert not big.is_of_use(MODEL)
        assert not big.is_of_use(f"{MODEL}:latest")
        assert big.is_of_use("GigaChat-2-Max")
        assert pool.snapshot().members[0].lacks == {MODEL: "unpaid"}


async def test_tokens_that_were_bought_are_noticed() -> None:
    """A credential out of tokens is asked for its balance, never for an answer, and comes back with the first token."""
    async with pool_of(replace(QUICK, balance=30.0), big=10, small=1) as pool:
        big = account(pool, "big")
        big.left = {MODEL: 0}
        await failing(pool, ProviderUnpaid(), first="big")
        await until(lambda: big.balances > 2)
        assert not pool.members[0].is_of_use(MODEL)
        big.left = {MODEL: 1000}
        await until(lambda: pool.members[0].is_of_use(MODEL))
        assert pool.snapshot().members[0].balance == {MODEL: 1000}


async def test_a_refused_credential_returns_by_probe() -> None:
    """A revoked credential is out until a probe is let in; probes grow rare; while it is out nobody is sent there."""
    async with pool_of(big=10, small=1) as pool:
        big = account(pool, "big")
        big.refusal = ProviderAuthFailed()
        await failing(pool, ProviderAuthFailed(), first="big")
        assert pool.snapshot().members[0].health == "refused"
        await until(lambda: big.probes > 2)
        assert await failing(pool, BadRequest()) == ["small"]
        big.refusal = None
        await until(lambda: pool.snapshot().members[0].health == "good")
        assert await failing(pool, BadRequest()) == ["big"]


async def test_three_failures_in_a_row_are_failing() -> None:
    """A credential whose calls get no answer leaves the pool at the third, and one answer in between counts anew."""
    async with pool_of(big=10, small=1) as pool:
        account(pool, "big").refusal = ProviderUnavailable()
        for first in ("big", "big", "", "big", "big"):
            await failing(pool, ProviderUnavailable(), first=first or "nobody")
        assert pool.snapshot().members[0].health == "good"
        await failing(pool, ProviderUnavailable(), first="big")
        assert pool.snapshot().members[0].health == "failing"
        assert await failing(pool, BadRequest()) == ["small"]


async def test_when_all_are_out_calls_go_on() -> None:
    """With nobody better a credential that is out is used, and an answer brings it back."""
    async with pool_of(one=2, other=1) as pool:
        for name in ("one", "other"):
            account(pool, name).refusal = ProviderAuthFailed()
        await failing(pool, ProviderAuthFailed())
        assert {member.health for member in pool.snapshot().members} == {"refused"}
        assert await failing(pool, BadRequest(), first="nobody") == ["one"]
        assert pool.snapshot().members[0].health == "good"


async def test_balances_are_watched_while_there_are_calls() -> None:
    """Balances of credentials in use are read; an empty one is avoided before it fails; 403 is not asked again."""
    async with pool_of(replace(QUICK, longest_probe=30.0), big=10, small=1) as pool:
        big, small = account(pool, "big"), account(pool, "small")
        big.left, small.left = {MODEL: 0, "GigaChat-2-Max": 7}, None
        async with pool.lifespan():
            await asyncio.sleep(0.02)
            assert (big.balances, small.balances) == (0, 0)
            leases = [await pool.lease(Ask("key", MODEL)) for _ in range(11)]
            for lease in leases:
                lease.end()
            await until(lambda: pool.snapshot().members[0].balance and small.balances)
            assert await failing(pool, BadRequest()) == ["small"]
            (await pool.lease(Ask("key", MODEL))).end()
            assert small.balances == 1
            assert pool.snapshot().members[1].balance is None


async def test_a_model_that_a_credential_lacks_holds_up_no_other_key() -> None:
    """A call that waits for one credential lets a call of another key pass that another credential can serve."""
    async with pool_of(big=2, small=1) as pool:
        account(pool, "big").refusal = ProviderAuthFailed()
        await failing(pool, ProviderDenied(), first="big")
        held = [await pool.lease(Ask("a", MODEL)), *[await pool.lease(Ask("a", "other")) for _ in range(2)]]
        assert [lease.member.name for lease in held] == ["small", "big", "big"]
        blocked = asyncio.create_task(pool.lease(Ask("a", MODEL)))
        passing = asyncio.create_task(pool.lease(Ask("b", "other")))
        await until(lambda: pool.snapshot().waiting == 2)
        held[1].end()
        assert (await passing).member.name == "big"
        assert not blocked.done()
        held[0].end()
        assert (await blocked).member.name == "small"


async def test_names_of_models_do_not_pile_up() -> None:
    """Clients may ask for any model: of those that are missing only the last few hundred are remembered."""
    async with pool_of(big=0, small=0) as pool:
        for number in range(1000):
            pool.members[0].failed(f"model-{number}", ModelNotFound())
        assert len(pool.members[0].lacks) <= 256
        pool.members[0].lacks = {
            name: type(lack)(lack.reason, time.monotonic() - 1) for name, lack in pool.members[0].lacks.items()
        }
        assert pool.snapshot().members[0].lacks == {}
