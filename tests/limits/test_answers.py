"""What clients hear of limits: headers on every answer, and refusals that say which limit, and when to come back."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit import Finished, Principal, ProviderUnavailable, TextDelta, Usage
from gatewaykit.builtin.limits import limiter, notes
from gatewaykit.builtin.limits.headers import duration
from gatewaykit.limits import Limit, Standing
from gatewaykit.testing import KEY, FakeProvider, plugin_of
from gatewaykit.testing.waiting import until

PRICES = {"models": [{"model": "*", "currency": "RUB", "input": "1000000", "output": "1000000"}]}


async def test_every_answer_says_how_the_limits_stand(client: Any, gateway_with: Any, question: Any) -> None:
    """Answers in one piece, streams, lists of models and errors of providers carry the same headers."""
    failing = FakeProvider(ProviderUnavailable(), name="failing")
    gateway = gateway_with(
        plugin_of(providers=[failing]),
        limits={"each_key": {"rpm": 100, "tpm": 9000, "concurrency": 7}},
    )
    async with client(gateway) as sdk:
        whole = await sdk.chat.completions.with_raw_response.create(**question)
        async with sdk.chat.completions.with_streaming_response.create(**question, stream=True) as stream:
            streamed = stream.headers
            await stream.read()
        models = await sdk.models.with_raw_response.list()
        with pytest.raises(openai.APIStatusError) as failed:
            await sdk.chat.completions.create(**{**question, "model": "failing/x"})
    for headers in (whole.headers, streamed, failed.value.response.headers):
        assert headers["x-ratelimit-limit-requests"] == "100"
        assert headers["x-ratelimit-limit-tokens"] == "9000"
        assert re.fullmatch(r"(\d+m)?\d+s|\d+ms", headers["x-ratelimit-reset-requests"])
        assert headers["ratelimit-policy"] == (
            '"key-rpm";q=100;w=60, "key-tpm";q=9000;qu="tokens";w=60, "key-concurrency";q=7;qu="concurrent-requests"'
        )
        assert re.fullmatch(
            r'"key-rpm";r=\d+;t=\d+, "key-tpm";r=\d+;t=\d+, "key-concurrency";r=6;t=0', headers["ratelimit"]
        )
    remaining = [
        answer["x-ratelimit-remaining-requests"]
        for answer in (whole.headers, streamed, models.headers, failed.value.response.headers)
    ]
    assert remaining == ["99", "98", "97", "96"]
    assert "x-ratelimit-limit-tokens" not in models.headers


async def test_a_refusal_names_the_limit_and_when_to_come_back(client: Any, gateway_with: Any, question: Any) -> None:
    """The SDK sees its own RateLimitError, of OpenAI's shape."""
    async with client(gateway_with(limits={"each_key": {"rpm": 2}})) as sdk:
        for _ in range(2):
            await sdk.chat.completions.create(**question)
        with pytest.raises(openai.RateLimitError) as refused:
            await sdk.chat.completions.create(**question)
    error, headers = refused.value, refused.value.response.headers
    assert (error.type, error.code) == ("requests", "rate_limit_exceeded")
    assert "2 requests per minute for this key (rpm)" in error.message
    assert 1 <= int(headers["retry-after"]) <= 65
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in headers


async def test_an_empty_budget_is_insufficient_quota(client: Any, gateway_with: Any, question: Any) -> None:
    """Official clients do not try again: waiting some seconds would not help."""
    fake = FakeProvider(TextDelta("x"), Finished(), Usage(6, 4))
    gateway = gateway_with(
        provider=fake,
        limits={"each_key": {"budget": "30", "budget_period": "month"}},
        prices=PRICES,
    )
    async with client(gateway, max_retries=3) as sdk:
        for _ in range(2):
            await sdk.chat.completions.create(**question, max_tokens=4)
        with pytest.raises(openai.RateLimitError) as refused:
            await sdk.chat.completions.create(**question, max_tokens=4)
    assert len(fake.calls) == 2
    assert (refused.value.type, refused.value.code) == ("insufficient_quota", "insufficient_quota")
    assert "for this month does not allow this request" in refused.value.message
    assert "10.00 of 30.00 RUB are left" in refused.value.message
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert int(refused.value.response.headers["retry-after"]) >= 1


async def test_a_budget_that_is_nearly_used_up_is_warned_of(
    client: Any, gateway_with: Any, question: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says whose budget it is and how much of it is used, before calls are refused."""
    monkeypatch.setattr(limiter, "_LOOK_AT_BUDGETS", 0.01)
    fake = FakeProvider(TextDelta("x"), Finished(), Usage(6, 4))
    limits = {"all": {"budget": "24", "budget_period": "month"}}
    async with client(gateway_with(provider=fake, limits=limits, prices=PRICES)) as sdk:
        for _ in range(2):
            await sdk.chat.completions.create(**question, max_tokens=4)
        await until(lambda: "83 % of the budget of all are used: 20.00 of 24.00 RUB" in caplog.text)


def test_a_budget_is_warned_of_once_in_its_period(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is looked at; in the next period it may come to that again."""
    now = 1000.0
    monkeypatch.setattr(notes.time, "monotonic", lambda: now)
    known, limit = notes.Notes(0.8, "RUB"), Limit("key:a", "money", 100, "day")
    for used in (79, 80, 95):
        known.budgets([Standing(limit, used, resets=60.0)], [(0, limit.key)])
        known.warn()
    assert len(caplog.messages) == 1
    now += 61.0
    known.warn()
    known.budgets([Standing(limit, 90, resets=60.0)], [(0, limit.key)])
    known.warn()
    assert len(caplog.messages) == 2


async def test_a_request_that_can_never_pass_is_told_so(client: Any, gateway_with: Any, question: Any) -> None:
    """Waiting does not help where one request asks for more than the limit; nothing is counted for it."""
    gateway = gateway_with(limits={"each_key": {"rpm": 1, "tpm": 100}})
    async with client(gateway, max_retries=3) as sdk:
        with pytest.raises(openai.RateLimitError, match="Ask for fewer tokens") as refused:
            await sdk.chat.completions.create(**question, max_tokens=1000)
        assert refused.value.type == "tokens"
        assert refused.value.response.headers["x-should-retry"] == "false"
        await sdk.chat.completions.create(**question, max_tokens=10)


async def test_nobody_hears_what_others_use(client: Any, gateway_with: Any, question: Any) -> None:
    """A limit on all calls, or on a model, is told without figures and appears in no header."""
    for limits in ({"all": {"rpm": 1}}, {"models": {"sm*": {"rpm": 1}}}):
        async with client(gateway_with(limits=limits)) as sdk:
            first = await sdk.chat.completions.with_raw_response.create(**question)
            with pytest.raises(openai.RateLimitError) as refused:
                await sdk.chat.completions.create(**question)
        for headers in (first.headers, refused.value.response.headers):
            assert not [name for name in headers if "ratelimit" in name]
        assert "used" not in refused.value.message
        assert "retry-after" in refused.value.response.headers


async def test_limits_of_a_model_hold_for_that_model_alone(client: Any, gateway_with: Any, question: Any) -> None:
    """Models that a glob does not match are free of its limits."""
    async with client(gateway_with(limits={"models": {"large": {"rpm": 0}}})) as sdk:
        await sdk.chat.completions.create(**question)
        with pytest.raises(openai.RateLimitError, match="the model large"):
            await sdk.chat.completions.create(**{**question, "model": "large"})


async def test_tokens_are_settled_to_what_was_used(client: Any, gateway_with: Any, question: Any) -> None:
    """What was reserved and not used is there for the next call, as soon as the answer is."""
    fake = FakeProvider(TextDelta("x"), Finished(), Usage(60, 40))
    async with client(gateway_with(provider=fake, limits={"each_key": {"tpm": 1000}})) as sdk:
        remaining = []
        for _ in range(3):
            answer = await sdk.chat.completions.with_raw_response.create(**question, max_tokens=500)
            remaining.append(int(answer.headers["x-ratelimit-remaining-tokens"]))
    reserved = 1000 - remaining[0]
    assert reserved > 500
    assert [1000 - 100 * number - reserved for number in range(3)] == remaining


async def test_a_call_that_fails_gives_back_all_but_the_request(client: Any, gateway_with: Any, question: Any) -> None:
    """No tokens and no money for an answer that never came."""
    fake = FakeProvider(ProviderUnavailable())
    gateway = gateway_with(provider=fake, limits={"each_key": {"rpm": 9, "tpm": 2000, "budget": "5000"}}, prices=PRICES)
    async with client(gateway) as sdk:
        for _ in range(4):
            with pytest.raises(openai.InternalServerError):
                await sdk.chat.completions.create(**question)
        standings = await gateway.standings(Principal("static:test"))
    assert [(standing.limit.name, standing.used) for standing in standings] == [("rpm", 4), ("tpm", 0), ("budget", 0)]


async def test_one_call_after_the_other_never_meets_itself(client: Any, gateway_with: Any, question: Any) -> None:
    """With room for one call at a time, a client that waits for its answers is never refused."""
    async with client(gateway_with(limits={"each_key": {"concurrency": 1}})) as sdk:
        for number in range(60):
            answer = await sdk.chat.completions.create(**question, stream=bool(number % 2))
            if number % 2:
                assert [chunk async for chunk in answer]


async def test_calls_at_the_same_time_are_limited(client: Any, gateway_with: Any, question: Any) -> None:
    """The third of two is refused, until one of them has ended."""
    gate = asyncio.Event()
    fake = FakeProvider(gate, TextDelta("x"), Finished())
    async with client(gateway_with(provider=fake, limits={"each_key": {"concurrency": 2}})) as sdk:
        running = [asyncio.ensure_future(sdk.chat.completions.create(**question)) for _ in range(2)]
        await until(lambda: fake.opened == 2)
        with pytest.raises(openai.RateLimitError, match="2 calls at the same time") as refused:
            await sdk.chat.completions.create(**question)
        assert refused.value.response.headers["retry-after"] == "1"
        gate.set()
        await asyncio.gather(*running)
        await sdk.chat.completions.create(**question)


async def test_two_hundred_streams_that_are_left_leave_nothing(client: Any, gateway_with: Any, question: Any) -> None:
    """Clients that go away in the middle give back their place, and what they reserved beyond what came."""
    gate = asyncio.Event()
    fake = FakeProvider(TextDelta("four"), gate, Finished())
    gateway = gateway_with(provider=fake, limits={"each_key": {"concurrency": 200, "tpm": 10_000_000}})
    async with client(gateway) as sdk:

        async def leave() -> None:
            async with sdk.chat.completions.with_streaming_response.create(**question, stream=True) as answer:
                async for _ in answer.iter_lines():
                    return

        await asyncio.gather(*(leave() for _ in range(200)))
        await until(lambda: fake.closed == 200)
        await sdk.models.list()
        standings = {
            standing.limit.name: standing.used for standing in await gateway.standings(Principal("static:test"))
        }
    assert standings["concurrency"] == 0
    assert 0 < standings["tpm"] < 200 * 100


async def test_a_budget_for_fifty_calls_lets_fifty_pass(client: Any, gateway_with: Any, question: Any) -> None:
    """Two hundred at once cannot spend more than there is."""
    fake = FakeProvider(TextDelta("x"), Finished(), Usage(90, 10))
    gateway = gateway_with(
        provider=fake,
        limits={"keys": {"static:test": {"budget": "0.05", "budget_period": "total"}}},
        prices={"models": [{"model": "*", "currency": "RUB", "input": "0", "output": "0", "request": "0.001"}]},
    )
    async with client(gateway) as sdk:
        answers = await asyncio.gather(
            *(sdk.chat.completions.create(**question) for _ in range(200)), return_exceptions=True
        )
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert Counter(type(answer).__name__ for answer in answers) == {"ChatCompletion": 50, "RateLimitError": 150}
    assert {error.code for error in refused} == {"insufficient_quota"}


@pytest.mark.parametrize(("unknown", "status"), [("refuse", 403), ("count", 200)])
async def test_a_budget_needs_a_price(client: Any, gateway_with: Any, question: Any, unknown: str, status: int) -> None:
    """A model whose price nobody knows is refused under a budget, or counted apart, but never free in silence."""
    gateway = gateway_with(limits={"each_key": {"budget": "1"}}, prices={"unknown": unknown})
    async with client(gateway) as sdk:
        if status == 200:
            await sdk.chat.completions.create(**question)
            return
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await sdk.chat.completions.create(**question)
    assert refused.value.code == "price_unknown"


async def test_keys_may_have_limits_of_their_own(client: Any, gateway_with: Any, question: Any) -> None:
    """What an authenticator says of a key or its account is stronger than the defaults, and both hold."""

    class Door:
        name = "door"
        before = ("static-keys",)

        async def authenticate(self, incoming: Any) -> Principal:
            limits = (Limit("key:k", "requests", 3, 60), Limit("user:anna", "requests", 5, 60))
            return Principal(incoming.headers["x-who"], owner="anna", limits=limits)

    gateway = gateway_with(
        plugin_of(authenticators=[Door()]),
        limits={"each_key": {"rpm": 1, "rpd": 50}, "each_user": {"rpm": 1, "tpm": 99_000}},
    )
    async with client(gateway, default_headers={"x-who": "k"}) as sdk:
        answer = await sdk.chat.completions.with_raw_response.create(**question)
        names = re.findall(r'"([a-z-]+)";q=(\d+)', answer.headers["ratelimit-policy"])
        assert names == [("key-rpm", "3"), ("user-rpm", "5"), ("key-rpd", "50"), ("user-tpm", "99000")]
        for _ in range(2):
            await sdk.chat.completions.create(**question)
        with pytest.raises(openai.RateLimitError, match="this key"):
            await sdk.chat.completions.create(**question)


async def test_without_limits_nothing_is_said_of_them(client: Any, gateway_with: Any, question: Any) -> None:
    """No limit, no header."""
    async with client(gateway_with()) as sdk:
        answer = await sdk.chat.completions.with_raw_response.create(**question)
    assert not [name for name in answer.headers if "ratelimit" in name]
    assert KEY not in str(answer.headers)


@given(st.floats(0, 10**18))
def test_durations_are_never_too_short(seconds: float) -> None:
    """Who waits as long as a header says has waited long enough, and not a second too long."""
    text = duration(seconds)
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"(\d+)(ms|h|m|s)", text)
    assert "".join(number + unit for number, unit in parts) == text
    waited = sum(int(number) * units[unit] for number, unit in parts)
    assert min(seconds, 999_999_999_999_999) <= waited + 1e-9
    assert waited <= seconds + 1
