"""Hedging over sockets: who wins, what becomes of the other, and what the record says."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec import structs

from gatewaykit import BadRequest, Call, ProviderUnavailable, Router, Target
from gatewaykit.attempts.breaker import BreakerRules
from gatewaykit.attempts.retries import RetryRules
from gatewaykit.attempts.scope import Attempts
from gatewaykit.attempts.targets import Targets
from gatewaykit.testing import gateway_client, make_call, make_gateway, plugin_of, until
from gatewaykit.types import Hedge

URL = "/v1/chat/completions"
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Hedged(Router):
    """Two targets, the first of them hedged."""

    name = "hedged"
    before = ("models",)

    def __init__(self, seconds: float = 0.02, quantile: float | None = None) -> None:
        self._targets = (Target("one", "m", hedge=Hedge(seconds, quantile)), Target("two", "m"))

    def route(self, call: Call) -> tuple[Target, ...]:
        return self._targets

    async def models(self, call: Call) -> list[Any]:
        return []


def gateway_of(records: Any, *providers: Any, router: Router | None = None, **config: Any) -> Any:
    plugin = plugin_of(providers=providers, observers=[records], routers=[router or Hedged()])
    return make_gateway(plugin, **{"hedging": {"share": 1.0}, **config})


@both_ways
async def test_a_silent_target_is_overtaken(scripted: Any, records: Any, ask: Any, stream: bool) -> None:
    """The second answers, the first is cancelled, and the record has both, the one that answered last."""
    one, two = scripted("one", asyncio.Event()), scripted("two")
    gateway = gateway_of(records, one, two)
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json={**ask, "stream": stream})
        await until(lambda: one.left)
    assert "from two" in answer.text
    assert answer.headers["x-gatewaykit-target"] == "two/m"
    assert answer.headers["x-gatewaykit-attempts"] == "2"
    assert records.tries() == [("one/m", "overtaken"), ("two/m", None)]
    assert records.only.target == Target("two", "m")
    assert (gateway.targets.hedges, gateway.targets.overtaken) == (1, 1)
    assert [state.in_flight for state in gateway.targets.all()] == [0, 0]


@both_ways
async def test_a_quick_target_is_not_hedged(scripted: Any, records: Any, ask: Any, stream: bool) -> None:
    """The second hears nothing."""
    one, two = scripted("one"), scripted("two")
    async with gateway_client(gateway_of(records, one, two, router=Hedged(30.0))) as client:
        answer = await client.post(URL, json={**ask, "stream": stream})
    assert answer.headers["x-gatewaykit-target"] == "one/m"
    assert "x-gatewaykit-attempts" not in answer.headers
    assert not two.calls


@both_ways
async def test_the_first_may_still_win(scripted: Any, records: Any, ask: Any, stream: bool) -> None:
    """Then it is the second that is cancelled."""
    gate = asyncio.Event()
    one, two = scripted("one", gate), scripted("two", asyncio.Event())
    async with gateway_client(gateway_of(records, one, two)) as client:
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": stream}))
        await until(lambda: two.calls)
        gate.set()
        answer = await task
        await until(lambda: two.left)
    assert answer.headers["x-gatewaykit-target"] == "one/m"
    assert records.tries() == [("two/m", "overtaken"), ("one/m", None)]


async def test_an_error_is_no_win(scripted: Any, records: Any, ask: Any) -> None:
    """A second that fails at once does not end the first."""
    gate = asyncio.Event()
    one, two = scripted("one", gate), scripted("two", ProviderUnavailable())
    async with gateway_client(gateway_of(records, one, two)) as client:
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": True}))
        await until(lambda: two.calls)
        gate.set()
        answer = await task
    assert "from one" in answer.text
    assert records.tries() == [("two/m", "provider_unavailable"), ("one/m", None)]


async def test_when_both_fail_the_call_goes_on_as_usual(scripted: Any, records: Any, ask: Any) -> None:
    """Both failures are known, and what may pass is tried again."""
    gate = asyncio.Event()
    one, two = scripted("one", gate, None), scripted("two", ProviderUnavailable())
    retries = {"attempts": 1, "backoff": 0.0}
    gateway = gateway_of(records, one, two, retries=retries, timeouts={"first_event": 0.1})
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
    assert answer.status_code == 200
    assert records.tries() == [("two/m", "provider_unavailable"), ("one/m", "provider_timeout"), ("one/m", None)]


async def test_a_failure_before_the_delay_is_a_fallback(scripted: Any, records: Any, ask: Any) -> None:
    """No second target is paid for a first that has failed."""
    one, two = scripted("one", ProviderUnavailable()), scripted("two")
    gateway = gateway_of(records, one, two, router=Hedged(30.0))
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
    assert answer.headers["x-gatewaykit-target"] == "two/m"
    assert (gateway.targets.hedges, gateway.targets.fallbacks) == (0, 1)


async def test_calls_of_the_same_moment_have_one_probe_among_them(scripted: Any) -> None:
    """Each begins in a task of its own, a moment after it was admitted: an open circuit lets one of them through."""
    providers = {name: scripted(name, *[asyncio.Event()] * 20) for name in ("one", "two")}
    targets = Targets(BreakerRules(calls=1, cooldown=60))
    first, second = Target("one", "m", hedge=Hedge(30.0)), Target("two", "m")
    breaker = targets[first].breaker
    assert breaker is not None
    breaker.end(time.monotonic() - 61, failed=True)
    attempts = Attempts(providers, targets, RetryRules(), first_event=30.0, whole_call=60.0)
    calls = [structs.replace(make_call(), targets=(first, second)) for _ in range(20)]
    tasks = [asyncio.create_task(attempts.open(call)) for call in calls]
    await until(lambda: len(providers["one"].calls) + len(providers["two"].calls) == 20)
    assert len(providers["one"].calls) == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until(lambda: not any(state.in_flight for state in targets.all()))
    assert breaker.admits(time.monotonic())


async def test_a_second_target_is_no_fallback(scripted: Any, records: Any, ask: Any) -> None:
    """Also where the first one comes after another that failed: it went on once, and began one more beside."""
    providers = [scripted("one", ProviderUnavailable()), scripted("two", asyncio.Event()), scripted("three")]
    model = {"hedge": {"after": 0.02}, "targets": [{"to": f"{provider.name}/m"} for provider in providers]}
    plugin = plugin_of(providers=providers, observers=[records])
    gateway = make_gateway(plugin, router={"models": {"smart": model}}, hedging={"share": 1.0})
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
    assert answer.headers["x-gatewaykit-target"] == "three/m"
    assert (gateway.targets.fallbacks, gateway.targets.hedges, gateway.targets.overtaken) == (1, 1, 1)


async def test_a_bad_request_ends_the_race(scripted: Any, records: Any, ask: Any) -> None:
    """What is the client's own fault is told, and the other target cancelled."""
    one, two = scripted("one", asyncio.Event()), scripted("two", BadRequest("no"))
    async with gateway_client(gateway_of(records, one, two)) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
        await until(lambda: one.left)
    assert answer.status_code == 400
    assert "x-gatewaykit-target" not in answer.headers


async def test_of_two_that_begin_in_the_same_moment_one_wins(scripted: Any, records: Any, ask: Any) -> None:
    """The other is closed, and is no second answer in the record."""
    gate = asyncio.Event()
    one, two = scripted("one", gate), scripted("two", gate)
    gateway = gateway_of(records, one, two)
    async with gateway_client(gateway) as client:
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": True}))
        await until(lambda: two.calls)
        gate.set()
        answer = await task
        await until(lambda: one.left + two.left == 1)
        await until(lambda: not any(state.in_flight for state in gateway.targets.all()))
    assert answer.text.count("from ") == 1
    assert [error for _, error in records.tries()] == ["overtaken", None]


async def test_the_budget_of_second_targets_holds(scripted: Any, records: Any, ask: Any) -> None:
    """Without any left, the first is waited for."""
    gate = asyncio.Event()
    one, two = scripted("one", gate), scripted("two")
    gateway = gateway_of(records, one, two, hedging={"share": 0.0, "reserve": 0})
    async with gateway_client(gateway) as client:
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": True}))
        await until(lambda: gateway.targets.hedging.refused)
        gate.set()
        answer = await task
    assert answer.headers["x-gatewaykit-target"] == "one/m"
    assert not two.calls


async def test_who_asked_for_time_is_no_second(scripted: Any, records: Any, ask: Any) -> None:
    """A target that wants to be left alone is not asked for the sake of speed."""
    gate = asyncio.Event()
    one, two = scripted("one", gate), scripted("two")
    gateway = gateway_of(records, one, two, router=Hedged(0.0))
    async with gateway_client(gateway) as client:
        gateway.targets[Target("two", "m")].rest(60, asyncio.get_running_loop().time())
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": True}))
        await until(lambda: one.calls)
        gate.set()
        answer = await task
    assert answer.headers["x-gatewaykit-target"] == "one/m"
    assert (len(two.calls), gateway.targets.hedging.taken) == (0, 0)


async def test_a_client_that_leaves_ends_both(scripted: Any, records: Any, ask: Any) -> None:
    """Nothing goes on for nobody, and the record says that both were cancelled."""
    one, two = scripted("one", asyncio.Event()), scripted("two", asyncio.Event())
    gateway = gateway_of(records, one, two)
    async with gateway_client(gateway) as client:
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": True}))
        await until(lambda: two.calls)
        task.cancel()
        await until(lambda: one.left and two.left)
        await until(lambda: not any(state.in_flight for state in gateway.targets.all()))
    assert sorted(records.tries()) == [("one/m", "cancelled"), ("two/m", "cancelled")]


async def test_the_delay_is_learnt_from_the_target_s_own_answers(scripted: Any, records: Any, ask: Any) -> None:
    """After enough answers the quantile counts, not the seconds to begin with."""
    one, two = scripted("one", *[None] * 40, asyncio.Event()), scripted("two")
    gateway = gateway_of(records, one, two, router=Hedged(30.0, 0.95))
    async with gateway_client(gateway) as client:
        for _ in range(40):
            await client.post(URL, json={**ask, "stream": True})
        answer = await client.post(URL, json={**ask, "stream": True})
    assert answer.headers["x-gatewaykit-target"] == "two/m"
