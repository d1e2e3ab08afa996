"""However a call ends: one record, one fate for each permit, one response, nothing left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gatewaykit import (
    AroundCall,
    Call,
    ContentBlocked,
    ContextTooLong,
    Event,
    Finished,
    ModelNotFound,
    Principal,
    ProviderBusy,
    ProviderUnavailable,
    RateLimited,
    ReasoningDelta,
    Started,
    Target,
    TextDelta,
    ToolCallDelta,
    Transform,
    Usage,
)
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of, until

PAUSE = "pause"
HELLO = TextDelta("hello")
ESTIMATED = "estimated"


@dataclass(frozen=True)
class Ending:
    script: Sequence[Any]
    stream: bool
    status: int
    outcome: str
    error: str | None
    fate: Any
    """``None`` for a permit that is released, else the usage that it is settled with."""


ENDINGS = {
    "an answer": Ending((HELLO, Finished(), Usage(3, 2)), False, 200, "done", None, Usage(3, 2)),
    "a stream": Ending((HELLO, PAUSE, Finished(), Usage(3, 2)), True, 200, "done", None, Usage(3, 2)),
    "a stream at once": Ending((HELLO, Finished(), Usage(3, 2)), True, 200, "done", None, Usage(3, 2)),
    "an answer without usage": Ending((HELLO, Finished()), False, 200, "done", None, ESTIMATED),
    "a stream without usage": Ending((HELLO, PAUSE, Finished()), True, 200, "done", None, ESTIMATED),
    "down": Ending((ProviderUnavailable(),), False, 503, "provider_error", "provider_unavailable", None),
    "down, streamed": Ending((ProviderUnavailable(),), True, 503, "provider_error", "provider_unavailable", None),
    "down after a pause": Ending((PAUSE, ProviderBusy()), True, 429, "provider_error", "rate_limit_exceeded", None),
    "blocked": Ending((ContentBlocked(),), True, 400, "blocked", "content_filter", None),
    "broken provider": Ending((ValueError("bug"),), False, 502, "provider_error", "provider_error", None),
    "broken provider, streamed": Ending((ValueError("bug"),), True, 502, "provider_error", "provider_error", None),
    "broken off": Ending(
        (HELLO, PAUSE, ProviderUnavailable()), True, 200, "provider_error", "provider_unavailable", ESTIMATED
    ),
    "broken off by a bug": Ending(
        (HELLO, PAUSE, ValueError("bug")), True, 200, "provider_error", "provider_error", ESTIMATED
    ),
    "ended too soon": Ending((HELLO, PAUSE), True, 200, "provider_error", "provider_bad_answer", ESTIMATED),
    "ended too soon, in one piece": Ending((HELLO,), False, 502, "provider_error", "provider_bad_answer", None),
    "empty": Ending((), True, 502, "provider_error", "provider_bad_answer", None),
    "empty, in one piece": Ending((), False, 502, "provider_error", "provider_bad_answer", None),
}


class Scripted(FakeProvider):
    """Takes an empty script at its word, and lets the client read at each pause."""

    def __init__(self, script: Sequence[Any], name: str = "scripted") -> None:
        super().__init__(name=name)
        self.script = script

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.calls.append(call)
        self.opened += 1
        try:
            for line in self.script:
                if line is PAUSE:
                    await asyncio.sleep(0)
                elif isinstance(line, BaseException):
                    raise line
                else:
                    yield line
        finally:
            self.closed += 1


def same_usage(got: Usage | None, wanted: Any) -> bool:
    return got is not None and got.estimated and got.output_tokens > 0 if wanted is ESTIMATED else got == wanted


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
async def test_a_call_ends_once(wire: Any, records: Any, limiter: Any, ending: Ending) -> None:
    """Status, error, record and the permits' fate tell the same story."""
    book: list[Any] = []
    provider = Scripted(ending.script)
    limiters = [limiter("first", book), limiter("second", book)]
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records], limiters=limiters))
    async with gateway:
        before = asyncio.all_tasks()
        done = await wire(gateway).ask(stream=ending.stream).run()
        await until(lambda: asyncio.all_tasks() <= before)
    assert done.status == ending.status
    assert done.ended
    if ending.error is not None:
        assert done.error["code"] == ending.error
        assert "[DONE]" not in done.text
        assert "bug" not in done.text
    elif ending.stream:
        assert done.text.endswith("data: [DONE]\n\n")
    record = records.only
    assert (record.status, record.outcome, record.error) == (ending.status, ending.outcome, ending.error)
    assert (record.stream, record.model, record.principal) == (ending.stream, "m", "static:test")
    assert same_usage(record.usage, ending.fate)
    assert [entry[:2] for entry in book[:2]] == [("first", "acquired"), ("second", "acquired")]
    fate = "released" if ending.fate is None else "settled"
    assert [entry[:2] for entry in book[2:]] == [("second", fate), ("first", fate)]
    if fate == "settled":
        assert all(same_usage(entry[2], ending.fate) for entry in book[2:])
    assert provider.opened == provider.closed == 1
    (attempt,) = record.attempts
    assert attempt.target == Target("scripted", "m")
    assert attempt.error == (ending.error if ending.fate is None else None)
    assert record.target == (None if ending.fate is None else attempt.target)


@pytest.mark.parametrize("error", [RateLimited(retry_after=2.5), ValueError("bug"), asyncio.CancelledError()])
async def test_a_limiter_that_refuses_frees_what_the_others_hold(
    wire: Any, records: Any, limiter: Any, error: BaseException
) -> None:
    """Those before it are released, those behind it are never asked, and the provider hears nothing."""
    book: list[Any] = []
    provider = FakeProvider()
    limiters = [limiter("one", book), limiter("two", book), limiter("no", book, error), limiter("late", book)]
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records], limiters=limiters))
    request = wire(gateway).ask()
    async with gateway:
        if isinstance(error, asyncio.CancelledError):
            with pytest.raises(asyncio.CancelledError):
                await request.run()
        else:
            await request.run()
    acquired, fates = book[:2], book[2:]
    assert acquired == [("one", "acquired"), ("two", "acquired")]
    assert fates == [("two", "released"), ("one", "released")]
    assert provider.opened == 0
    if isinstance(error, RateLimited):
        assert (request.status, request.headers["retry-after"]) == (429, "3")
        assert records.only.outcome == "refused"
    elif isinstance(error, ValueError):
        assert (request.status, records.only.outcome) == (503, "refused")
    else:
        assert (request.sent, records.only.outcome, records.only.status) == ([], "client_gone", 499)


class Cache(AroundCall):
    """Answers by itself what it has heard before."""

    name = "cache"

    def __init__(self) -> None:
        self.kept: list[Event] = []

    async def around(self, call: Call, proceed: Any) -> AsyncIterator[Event]:
        if self.kept:
            for event in self.kept:
                yield event
        else:
            async for event in proceed(call):
                self.kept.append(event)
                yield event


@pytest.mark.parametrize("stream", [False, True])
async def test_a_short_circuit_is_settled_and_recorded(wire: Any, records: Any, limiter: Any, stream: bool) -> None:
    """An answer from a cache is an answer: the permit is settled, the record has no attempt, no provider is asked."""
    book: list[Any] = []
    provider = FakeProvider()
    gateway = make_gateway(
        plugin_of(providers=[provider], observers=[records], limiters=[limiter("one", book)], around_calls=[Cache()])
    )
    async with gateway:
        first = await wire(gateway).ask(stream=stream).run()
        second = await wire(gateway).ask(stream=stream).run()
    assert provider.opened == 1
    assert first.status == second.status == 200
    assert "x-gatewaykit-target" not in second.headers
    assert [entry[1] for entry in book] == ["acquired", "settled"] * 2
    assert [len(record.attempts) for record in records.seen] == [1, 0]
    assert [record.outcome for record in records.seen] == ["done", "done"]


async def test_a_list_of_models_settles_its_permit_without_usage(wire: Any, records: Any, limiter: Any) -> None:
    """It was answered, so that a limit of requests counts it; there are no tokens in it."""
    book: list[Any] = []
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], limiters=[limiter("one", book)], observers=[records]))
    async with gateway:
        await wire(gateway, "/v1/models", "GET").run()
    assert book == [("one", "acquired"), ("one", "settled", None)]
    assert (records.only.outcome, records.only.usage) == ("done", None)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_permit_that_cannot_be_left_harms_nobody(
    wire: Any, records: Any, limiter: Any, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    """The answer is given and recorded, the other permits are settled, and the log names the limiter."""
    book: list[Any] = []

    class Stuck:
        headers = ()

        async def settle(self, usage: Usage | None) -> None:
            if hangs:
                await asyncio.Event().wait()
            raise RuntimeError("no store")

        async def release(self) -> None:
            raise AssertionError

    class Failing:
        name = "failing"
        deadline = 0.01

        async def acquire(self, call: Call) -> Stuck:
            return Stuck()

    limiters = [limiter("one", book), Failing(), limiter("two", book)]
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], limiters=limiters, observers=[records]))
    async with gateway:
        done = await wire(gateway).ask().run()
    assert done.status == 200
    assert [entry[:2] for entry in book[2:]] == [("two", "settled"), ("one", "settled")]
    assert (records.only.outcome, records.only.status) == ("done", 200)
    assert "failing" in caplog.text


class Idle(Transform):
    """Wants to see events and changes nothing."""

    name = "idle"

    def on_event(self, call: Call, event: Event) -> Event:
        return event


@pytest.mark.parametrize("transforms", [[], [Idle()]], ids=["direct", "as events"])
@pytest.mark.parametrize(
    "script",
    [
        (HELLO, Finished()),
        (ToolCallDelta(0, "call_1", "look", '{"a": 1}'), Finished("tool_calls")),
        (Started("m-2", "id-1", 7, ("seed",)), HELLO, ReasoningDelta("hm"), Finished("length"), Usage(3, 2, 1, 1)),
    ],
)
async def test_an_answer_is_the_same_whether_or_not_anybody_looks_at_its_events(
    wire: Any, records: Any, transforms: list[Any], script: Any
) -> None:
    """A provider's missing usage is estimated, its ignored parameters are told, in every way through the gateway."""
    answers = []
    for looking in ([], transforms):
        gateway = make_gateway(plugin_of(providers=[FakeProvider(*script)], observers=[records], transforms=looking))
        async with gateway:
            done = await wire(gateway).ask().run()
        document = json.loads(done.text)
        assert document.pop("usage")["total_tokens"] > 0
        answers.append((document["choices"], document["model"], done.headers.get("x-gatewaykit-ignored")))
    assert answers[0] == answers[1]
    one, two = records.seen
    assert one.usage == two.usage


# Fallback


def two_providers(one: Sequence[Any], two: Sequence[Any], *others: Any, **config: Any) -> tuple[Any, Any, Any]:
    first, second = Scripted(one, "one"), Scripted(two, "two")
    gateway = make_gateway(
        plugin_of(providers=[first, second], observers=others),
        router={"aliases": {"m": ["one/a", "two/b"]}},
        **config,
    )
    return gateway, first, second


GOOD = (TextDelta("from two"), Finished())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ProviderUnavailable(), "provider_unavailable"),
        (ProviderBusy(), "rate_limit_exceeded"),
        (ContextTooLong(), "context_length_exceeded"),
        (ModelNotFound(), "model_not_found"),
        (ValueError("bug"), "provider_error"),
        (None, "provider_bad_answer"),
    ],
)
async def test_before_the_first_event_another_target_is_tried(
    wire: Any, records: Any, stream: bool, failure: BaseException | None, code: str
) -> None:
    """The client sees one good answer, which target gave it and after how many attempts; the record has all."""
    gateway, one, two = two_providers([failure] if failure else [], GOOD, records)
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    assert done.status == 200
    assert "from two" in done.text
    assert done.headers["x-gatewaykit-target"] == "two/b"
    assert done.headers["x-gatewaykit-attempts"] == "2"
    assert [(str(attempt.target), attempt.error) for attempt in records.only.attempts] == [
        ("one/a", code),
        ("two/b", None),
    ]
    assert records.only.target == Target("two", "b")
    assert (one.opened, one.closed, two.opened, two.closed) == (1, 1, 1, 1)


async def test_after_the_first_event_there_is_no_other_target(wire: Any, records: Any) -> None:
    """What the client has begun to read cannot be begun again: one start, one error frame, no end mark."""
    gateway, one, two = two_providers((HELLO, PAUSE, ProviderUnavailable()), GOOD, records)
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert done.status == 200
    assert done.error["code"] == "provider_unavailable"
    assert done.text.count('"error"') == 1
    assert "[DONE]" not in done.text
    assert (one.opened, two.opened) == (1, 0)
    assert [attempt.error for attempt in records.only.attempts] == [None]


@pytest.mark.parametrize("failure", [ContentBlocked(), RateLimited()])
async def test_only_errors_that_another_target_may_cure_are_tried_again(wire: Any, failure: Any) -> None:
    """An error that is the request's own fault is told at once."""
    gateway, _, two = two_providers([failure], GOOD)
    async with gateway:
        done = await wire(gateway).ask().run()
    assert two.opened == (1 if failure.fallback else 0)
    assert done.status == (200 if failure.fallback else failure.status)


async def test_when_all_targets_fail_the_last_error_is_told(wire: Any, records: Any) -> None:
    """The record has every attempt, and no target."""
    gateway, _, _ = two_providers([ProviderUnavailable()], [ProviderBusy(retry_after=7)], records)
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert (done.status, done.headers["retry-after"], done.headers["x-gatewaykit-attempts"]) == (429, "7", "2")
    assert len(records.only.attempts) == 2
    assert records.only.target is None


async def test_a_router_that_names_a_provider_that_is_not_there_is_no_crash(wire: Any, records: Any) -> None:
    """It counts as a failed attempt, and another target is tried."""

    class Lost:
        name = "lost"
        before = ("models",)

        def route(self, call: Call) -> list[Target]:
            return [Target("nowhere", "m"), Target("fake", "m")]

        async def models(self, call: Call) -> list[Any]:
            return []

    gateway = make_gateway(plugin_of(providers=[FakeProvider()], routers=[Lost()], observers=[records]))
    async with gateway:
        assert (await wire(gateway).ask().run()).status == 200
    assert [attempt.error for attempt in records.only.attempts] == ["provider_error", None]


# Refusals on the way


async def test_a_request_is_refused_where_it_first_fails(wire: Any, records: Any, limiter: Any) -> None:
    """Each refusal is recorded once with what was known by then, and permits are freed."""
    book: list[Any] = []

    class Door:
        name = "door"

        async def authenticate(self, incoming: Any) -> Principal | None:
            return Principal("guest", models=("cheap-*",)) if "x-guest" in incoming.headers else None

    gateway = make_gateway(
        plugin_of(
            providers=[FakeProvider(models=["cheap-1"])],
            observers=[records],
            limiters=[limiter("one", book)],
            authenticators=[Door()],
        ),
        router={"default_provider": "fake"},
    )
    guest = [(b"x-guest", b"1")]
    async with gateway:
        stranger = wire(gateway).ask()
        stranger.scope["headers"] = []
        await stranger.run()
        wrong = wire(gateway)
        wrong.pieces = [b'{"model": 1}']
        await wrong.run()
        denied = wire(gateway).ask(model="dear-1")
        denied.scope["headers"] = guest
        await denied.run()
        allowed = wire(gateway).ask(model="cheap-1")
        allowed.scope["headers"] = guest
        await allowed.run()
        models = wire(gateway, "/v1/models/dear-1", "GET")
        models.scope["headers"] = guest
        await models.run()
        post = await wire(gateway, "/v1/models", "POST").run()
    assert [stranger.status, wrong.status, denied.status, allowed.status, models.status, post.status] == [
        401, 400, 403, 200, 404, 405,
    ]  # fmt: skip
    assert [(record.status, record.outcome, record.principal, record.model) for record in records.seen] == [
        (401, "refused", None, None),
        (400, "refused", "static:test", None),
        (403, "refused", "guest", "dear-1"),
        (200, "done", "guest", "cheap-1"),
        (404, "refused", "guest", "dear-1"),
        (405, "refused", None, None),
    ]
    assert [entry[1] for entry in book] == ["acquired", "settled", "acquired", "released"]


async def test_without_any_authenticator_everything_is_refused(wire: Any) -> None:
    """Nothing is open by default."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]), static_keys={})
    assert not gateway.guarded
    async with gateway:
        assert (await wire(gateway).ask().run()).status == 401
