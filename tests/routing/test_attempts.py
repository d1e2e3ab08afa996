"""Attempts over sockets: fallback, retries and their budget, circuits, with providers whose faults are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewaykit import (
    Call,
    ContentBlocked,
    ContextTooLong,
    Event,
    Finished,
    GatewayError,
    Provider,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
    Router,
    Target,
    TextDelta,
)
from gatewaykit.testing import gateway_client, make_gateway, plugin_of, until

URL = "/v1/chat/completions"
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Fixed(Router):
    """Always these targets."""

    name = "fixed"
    before = ("models",)

    def __init__(self, *targets: Target) -> None:
        self._targets = targets

    def route(self, call: Call) -> tuple[Target, ...]:
        return self._targets

    async def models(self, call: Call) -> list[Any]:
        return []


# Retries


@both_ways
@pytest.mark.parametrize("failure", [ProviderUnavailable(), ProviderTimeout(), ProviderBusy()])
async def test_what_may_pass_is_tried_again(
    scripted: Any, make: Any, records: Any, ask: Any, failure: GatewayError, stream: bool
) -> None:
    """One target that fails twice and then answers: the client sees the answer, the record all three."""
    one = scripted("one", failure, failure)
    async with gateway_client(make([one], records)) as client:
        answer = await client.post(URL, json={**ask, "stream": stream})
    assert answer.status_code == 200
    assert "from one" in answer.text
    assert answer.headers["x-gatewaykit-target"] == "one/m"
    assert answer.headers["x-gatewaykit-attempts"] == "3"
    assert records.tries() == [("one/m", failure.code), ("one/m", failure.code), ("one/m", None)]


@pytest.mark.parametrize(
    "failure", [ProviderUnpaid(), ProviderAuthFailed(), ProviderDenied(), ProviderBadAnswer(), ContextTooLong()]
)
async def test_what_cannot_pass_is_not(scripted: Any, make: Any, ask: Any, failure: GatewayError) -> None:
    """An error that another try cannot cure is told at once."""
    one = scripted("one", failure)
    async with gateway_client(make([one])) as client:
        answer = await client.post(URL, json=ask)
    assert answer.status_code == failure.status
    assert len(one.calls) == 1


async def test_not_after_the_first_event(make: Any, ask: Any) -> None:
    """What a client has begun to read is not begun again."""
    from gatewaykit.testing import FakeProvider

    fake = FakeProvider(TextDelta("half"), ProviderUnavailable(), name="one")
    async with gateway_client(make([fake])) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
    assert '"provider_unavailable"' in answer.text
    assert fake.opened == 1


async def test_another_target_goes_before_another_try(scripted: Any, make: Any, records: Any, ask: Any) -> None:
    """Tries begin again with the best target when each has been asked once."""
    one = scripted("one", ProviderUnavailable())
    two = scripted("two", ProviderUnpaid())
    async with gateway_client(make([one, two], records)) as client:
        answer = await client.post(URL, json=ask)
    assert answer.status_code == 200
    assert records.tries() == [("one/m", "provider_unavailable"), ("two/m", "insufficient_quota"), ("one/m", None)]


async def test_a_provider_that_asks_for_time_gets_it(scripted: Any, make: Any, ask: Any) -> None:
    """``Retry-After`` is waited for; more than ``retries.longest`` is told to the client instead."""
    one = scripted("one", ProviderBusy(retry_after=0.2), None, ProviderBusy(retry_after=60))
    async with gateway_client(make([one])) as client:
        began = asyncio.get_running_loop().time()
        assert (await client.post(URL, json=ask)).status_code == 200
        assert asyncio.get_running_loop().time() - began >= 0.2
        refused = await client.post(URL, json=ask)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert len(one.calls) == 3


async def test_the_budget_ends_it_and_says_so(scripted: Any, make: Any, ask: Any) -> None:
    """With an empty budget the error is told at once, and the official SDKs are told not to try either."""
    one = scripted("one", *[ProviderUnavailable()] * 9)
    gateway = make([one], retries={"attempts": 2, "backoff": 0.0, "budget": 0.0, "reserve": 1})
    async with gateway_client(gateway) as client:
        first, second = [await client.post(URL, json=ask) for _ in range(2)]
    assert [first.status_code, second.status_code] == [503, 503]
    assert second.headers["x-should-retry"] == "false"
    assert len(one.calls) == 3
    assert (gateway.targets.budget.taken, gateway.targets.retries) == (1, 1)


async def test_the_sdk_s_own_retries_count(scripted: Any, make: Any, ask: Any) -> None:
    """A client that says that it tries again leaves nothing for the gateway to try."""
    one = scripted("one", *[ProviderUnavailable()] * 9)
    gateway = make([one], retries={"attempts": 2, "backoff": 0.0, "budget": 0.0, "reserve": 1})
    async with gateway_client(gateway) as client:
        await client.post(URL, json=ask, headers={"x-stainless-retry-count": "1"})
    assert len(one.calls) == 1


async def test_a_provider_s_own_retries_count(make: Any, records: Any, ask: Any) -> None:
    """It asks before it tries again; what it was granted is in the record, and taken from the call and the budget."""

    class Stubborn(Provider):
        name = "one"
        granted = 0

        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            while call.may_retry(ProviderBusy()):
                self.granted += 1
            if self.granted < 2:
                raise ProviderUnavailable()
            yield TextDelta("at last")
            yield Finished()

    stubborn = Stubborn()
    gateway = make([stubborn], records)
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json=ask)
    assert (answer.status_code, answer.headers["x-gatewaykit-attempts"]) == (200, "3")
    assert stubborn.granted == 2
    assert [error for _, error in records.tries()] == ["rate_limit_exceeded", "rate_limit_exceeded", None]
    assert gateway.targets.budget.taken == 2


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.5}], ids=["bytes as they came", "parameters"])
async def test_a_provider_s_own_retries_leave_none_to_the_gateway(
    make: Any, records: Any, ask: Any, parameters: dict[str, Any]
) -> None:
    """Both together are no more than ``retries.attempts``, also where the target's parameters make another request."""

    class Stubborn(Provider):
        name = "one"

        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            while call.may_retry(ProviderUnavailable()):
                pass
            raise ProviderUnavailable
            yield TextDelta("")

    router = {"models": {"smart": {"targets": [{"to": "one/m", "parameters": parameters}]}}}
    async with gateway_client(make([Stubborn()], records, router=router)) as client:
        assert (await client.post(URL, json=ask)).status_code == 503
    assert len(records.only.attempts) == 3


@pytest.mark.parametrize(
    "model",
    [{}, {"parameters": {"temperature": 0.5}}, {"hedge": {"after": 30}}],
    ids=["plain", "parameters", "hedged"],
)
async def test_what_a_provider_adds_to_the_answer_s_headers_is_there(
    make: Any, ask: Any, model: dict[str, Any]
) -> None:
    """In whichever way its target is asked."""

    class Telling(Provider):
        name = "one"

        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            call.answer_headers = (*call.answer_headers, ("x-told", "yes"))
            yield TextDelta("hello")
            yield Finished()

    parameters = model.pop("parameters", {})
    targets = [{"to": "one/m", "parameters": parameters}, {"to": "one/n"}]
    async with gateway_client(make([Telling()], router={"models": {"smart": {"targets": targets, **model}}})) as client:
        answers = [await client.post(URL, json={**ask, "stream": stream}) for stream in (False, True)]
    assert [answer.headers.get("x-told") for answer in answers] == ["yes", "yes"]


async def test_a_cancellation_that_comes_from_within_is_the_provider_s_failure(
    scripted: Any, make: Any, records: Any, ask: Any
) -> None:
    """A task that a provider waits for may be cancelled by others; the client, who has not left, gets an answer."""
    one, two = scripted("one", asyncio.CancelledError()), scripted("two")
    gateway = make([one, two], records)
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json=ask)
    assert (answer.status_code, answer.headers["x-gatewaykit-target"]) == (200, "two/m")
    assert records.tries() == [("one/m", "provider_error"), ("two/m", None)]
    assert [state.in_flight for state in gateway.targets.all()] == [0, 0]


async def test_a_cancellation_from_within_a_stream_is_told_in_it(make: Any, records: Any, ask: Any) -> None:
    """As any other failure after the first event, and it is not the client's."""

    class Broken(Provider):
        name = "one"

        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            yield TextDelta("half")
            await asyncio.sleep(0)
            raise asyncio.CancelledError

    gateway = make([Broken()], records)
    async with gateway_client(gateway) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
    assert "half" in answer.text
    assert '"provider_error"' in answer.text
    assert "[DONE]" not in answer.text
    assert (records.only.outcome, gateway.targets[Target("one", "m")].in_flight) == ("provider_error", 0)


async def test_a_provider_may_not_try_again_while_another_target_is_left(make: Any, scripted: Any, ask: Any) -> None:
    """Falling back is quicker than waiting."""

    class Stubborn(Provider):
        name = "one"

        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            assert not call.may_retry(ProviderBusy())
            raise ProviderBusy
            yield TextDelta("")

    async with gateway_client(make([Stubborn(), scripted("two")])) as client:
        answer = await client.post(URL, json=ask)
    assert "from two" in answer.text


async def test_a_client_that_leaves_ends_the_pause(scripted: Any, make: Any, records: Any, ask: Any) -> None:
    """Nobody is asked again for a client that is gone."""
    one = scripted("one", ProviderBusy(retry_after=9))
    async with gateway_client(make([one], records)) as client:
        task = asyncio.create_task(client.post(URL, json={**ask, "stream": True}))
        await until(lambda: one.calls)
        task.cancel()
        await asyncio.wait({task})
    assert records.only.outcome == "client_gone"
    assert len(one.calls) == 1


# Fallback by kind


async def test_a_target_may_wait_for_one_kind_of_failure(scripted: Any, ask: Any) -> None:
    """Content that is blocked goes where it is configured to go, and nowhere else."""
    blocked = frozenset({"content_filter"})
    one, two = scripted("one", ContentBlocked(), ProviderUnpaid(), None), scripted("two")
    three = scripted("three", ProviderUnpaid(), None)
    targets = (
        Target("one", "m", stops=blocked), Target("two", "m", stops=blocked), Target("three", "m", after=blocked),
        Target("three", "other", after=blocked),
    )  # fmt: skip
    gateway = make_gateway(plugin_of(providers=[one, two, three], routers=[Fixed(*targets)]))
    async with gateway_client(gateway) as client:
        after_block = await client.post(URL, json=ask)
        after_unpaid = await client.post(URL, json=ask)
    assert after_block.headers["x-gatewaykit-target"] == "three/other"
    assert after_unpaid.headers["x-gatewaykit-target"] == "two/m"


async def test_a_kind_may_end_it(scripted: Any, ask: Any) -> None:
    """Nobody else is asked after a failure at which the target stops."""
    one, two = scripted("one", ContentBlocked()), scripted("two")
    router = Fixed(Target("one", "m", stops=frozenset({"content_filter"})), Target("two", "m"))
    async with gateway_client(make_gateway(plugin_of(providers=[one, two], routers=[router]))) as client:
        answer = await client.post(URL, json=ask)
    assert (answer.status_code, len(two.calls)) == (400, 0)


async def test_what_is_too_long_goes_to_a_longer_window(scripted: Any, ask: Any) -> None:
    """A target whose window is known to be no longer is not asked."""
    one, two, three = scripted("one", ContextTooLong()), scripted("two"), scripted("three")
    router = Fixed(
        Target("one", "m", context=8000), Target("two", "m", context=4000), Target("three", "m", context=9000)
    )
    async with gateway_client(make_gateway(plugin_of(providers=[one, two, three], routers=[router]))) as client:
        answer = await client.post(URL, json=ask)
    assert answer.headers["x-gatewaykit-target"] == "three/m"
    assert not two.calls


async def test_each_target_has_its_own_time_limit(scripted: Any, records: Any, ask: Any) -> None:
    """One that is silent for longer than its own ``first_event`` is given up."""
    one, two = scripted("one", asyncio.Event()), scripted("two")
    router = Fixed(Target("one", "m", first_event=0.05), Target("two", "m"))
    plugin = plugin_of(providers=[one, two], routers=[router], observers=[records])
    async with gateway_client(make_gateway(plugin)) as client:
        answer = await client.post(URL, json={**ask, "stream": True})
    assert answer.headers["x-gatewaykit-target"] == "two/m"
    assert records.tries() == [("one/m", "provider_timeout"), ("two/m", None)]
    assert one.left == 1


async def test_a_target_s_parameters_fill_what_the_client_left_open(scripted: Any, ask: Any) -> None:
    """What the client said stands; what it did not say is the target's."""
    one = scripted("one")
    router = Fixed(Target("one", "m", parameters={"temperature": 0.1, "max_tokens": 5, "top_k": 3}))
    async with gateway_client(make_gateway(plugin_of(providers=[one], routers=[router]))) as client:
        await client.post(URL, json={**ask, "temperature": 0.9})
    (call,) = one.calls
    assert (call.chat.temperature, call.chat.max_tokens, dict(call.chat.extra)) == (0.9, 5, {"top_k": 3})
    assert call.raw_dialect is None


async def test_a_transform_that_leaves_no_target_is_no_crash(scripted: Any, ask: Any) -> None:
    """The client hears that the model is not there."""
    from gatewaykit import Transform

    class Nobody(Transform):
        name = "nobody"

        def on_request(self, call: Call) -> None:
            call.targets = ()

    plugin = plugin_of(providers=[scripted("one")], transforms=[Nobody()])
    async with gateway_client(make_gateway(plugin)) as client:
        assert (await client.post(URL, json=ask)).status_code == 404


# Circuits


BREAKER = {"calls": 4, "cooldown": 0.2, "probes": 1}


async def test_an_open_circuit_leaves_the_target_alone(scripted: Any, make: Any, records: Any, ask: Any) -> None:
    """After enough failures a target is not asked, and the next one answers without a failed attempt."""
    one, two = scripted("one", *[ProviderUnavailable()] * 99), scripted("two")
    gateway = make([one, two], breaker={**BREAKER, "cooldown": 60})
    async with gateway_client(gateway) as client:
        answers = [await client.post(URL, json=ask) for _ in range(8)]
    assert [answer.headers.get("x-gatewaykit-attempts", "1") for answer in answers] == ["2"] * 4 + ["1"] * 4
    assert len(one.calls) == 4
    state = gateway.targets[Target("one", "m")]
    assert (state.circuit, state.failures, state.in_flight, state.last_error) == ("open", 4, 0, "provider_unavailable")


async def test_without_another_target_it_is_told_at_once(scripted: Any, make: Any, records: Any, ask: Any) -> None:
    """503 with the time until the next probe; it comes back by itself when the target does."""
    one = scripted("one", *[ProviderUnavailable()] * 4)
    gateway = make([one], retries={"attempts": 0}, breaker=BREAKER)
    async with gateway_client(gateway) as client:
        for _ in range(4):
            assert (await client.post(URL, json=ask)).status_code == 503
        refused = await client.post(URL, json=ask)
        assert (refused.status_code, refused.headers["retry-after"], len(one.calls)) == (503, "1", 4)
        assert "x-gatewaykit-attempts" not in refused.headers
        breaker = gateway.targets[Target("one", "m")].breaker
        assert breaker is not None
        clock = asyncio.get_running_loop().time
        await until(lambda: breaker.admits(clock()))
        assert (await client.post(URL, json=ask)).status_code == 200
    assert breaker.circuit == "closed"


async def test_a_list_of_models_that_comes_again_lets_the_next_call_probe(scripted: Any, make: Any, ask: Any) -> None:
    """A provider that is back is asked again long before the cooldown is over; asking for its list cost nothing."""
    from gatewaykit import Model

    class Listed(scripted):  # type: ignore[misc]
        asked, down = 0, False

        async def models(self) -> list[Model]:
            self.asked += 1
            if self.down:
                raise ProviderUnavailable
            return [Model("m")]

    one = Listed("one", *[ProviderUnavailable()] * 4)
    gateway = make([one], retries={"attempts": 0}, breaker={**BREAKER, "cooldown": 600})
    async with gateway_client(gateway) as client:
        for _ in range(5):
            await client.post(URL, json=ask)
        breaker = gateway.targets[Target("one", "m")].breaker
        assert breaker is not None
        assert breaker.circuit == "open"
        one.down, asked = True, one.asked
        await until(lambda: one.asked > asked)
        one.down = False
        await until(lambda: breaker.admits(asyncio.get_running_loop().time()))
        assert (await client.post(URL, json=ask)).status_code == 200
    assert breaker.circuit == "closed"


@pytest.mark.parametrize("failure", [ProviderBusy(), ContentBlocked(), ContextTooLong(), ProviderDenied()])
async def test_what_says_nothing_of_the_target_s_health_does_not_open_it(
    scripted: Any, make: Any, ask: Any, failure: GatewayError
) -> None:
    """A target that is at its limit, or refuses this one request, is well."""
    one = scripted("one", *[failure] * 9)
    gateway = make([one], retries={"attempts": 0}, breaker=BREAKER)
    async with gateway_client(gateway) as client:
        for _ in range(9):
            await client.post(URL, json=ask)
    assert gateway.targets[Target("one", "m")].circuit == "closed"


async def test_answers_that_break_off_open_it(make: Any, ask: Any) -> None:
    """A target whose streams never come to their end is left alone, too."""
    from gatewaykit.testing import FakeProvider

    fake = FakeProvider(TextDelta("half"), ProviderUnavailable(), name="one")
    gateway = make([fake], breaker={**BREAKER, "cooldown": 60})
    async with gateway_client(gateway) as client:
        for _ in range(6):
            await client.post(URL, json={**ask, "stream": True})
    assert fake.opened == 4
    assert gateway.targets[Target("one", "m")].in_flight == 0


async def test_a_target_that_asked_for_time_comes_last_meanwhile(scripted: Any, make: Any, ask: Any) -> None:
    """It is not asked while others can answer."""
    one, two = scripted("one", ProviderBusy(retry_after=60)), scripted("two")
    async with gateway_client(make([one, two])) as client:
        targets = [(await client.post(URL, json=ask)).headers["x-gatewaykit-target"] for _ in range(3)]
    assert targets == ["two/m"] * 3
    assert len(one.calls) == 1


async def test_in_flight_counts_streams_until_their_end(scripted: Any, ask: Any) -> None:
    """A stream that goes on is in flight; nothing is left when all are over, whichever way."""
    from gatewaykit import Finished, TextDelta
    from gatewaykit.testing import FakeProvider

    gate = asyncio.Event()
    fake = FakeProvider(TextDelta("one"), gate, Finished(), name="one")
    gateway = make_gateway(plugin_of(providers=[fake]), router={"default_provider": "one"})
    state = gateway.targets[Target("one", "smart")]
    async with gateway_client(gateway) as client:
        tasks = [asyncio.create_task(client.post(URL, json={**ask, "stream": True})) for _ in range(3)]
        await until(lambda: state.in_flight == 3)
        tasks[0].cancel()
        await until(lambda: state.in_flight == 2)
        gate.set()
        await asyncio.gather(*tasks[1:])
    assert (state.in_flight, state.calls, state.failures) == (0, 3, 0)


async def test_made_up_models_do_not_fill_the_memory(scripted: Any) -> None:
    """What is known of targets is bounded; those that the configuration names are never forgotten."""
    from gatewaykit.attempts.targets import MOST_TARGETS, Targets

    targets = Targets()
    kept = targets.keep(Target("one", "kept"))
    busy = targets[Target("one", "busy")]
    busy.in_flight = 1
    for number in range(3 * MOST_TARGETS):
        targets[Target("one", f"made-up-{number}")]
    assert len(targets.all()) <= MOST_TARGETS
    assert targets[Target("one", "kept")] is kept
    assert targets[Target("one", "busy")] is busy
