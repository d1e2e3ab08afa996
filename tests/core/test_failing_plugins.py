"""A plugin's defect is not the gateway's: it is named in the log, and costs what the plugin said it should cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewaykit import (
    AroundCall,
    Authenticator,
    AuthFailed,
    Call,
    Event,
    Finished,
    Incoming,
    Limiter,
    Model,
    PermissionDenied,
    Permit,
    Principal,
    Provider,
    Reply,
    Target,
    TextDelta,
    Transform,
    watch,
)
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of

WAYS = ["raises", "hangs"]


class Failing:
    """A defect, in each asynchronous hook: it raises what nobody expects, or never comes back."""

    name = "failing"
    tier = -10
    deadline = 0.02

    def __init__(self, way: str, on_error: str) -> None:
        self._way = way
        self.on_error = on_error

    async def _fail(self) -> None:
        if self._way == "hangs":
            await asyncio.Event().wait()
        raise LookupError("private detail")


class Door(Failing):
    async def authenticate(self, incoming: Incoming) -> Principal | None:
        await self._fail()
        return None


class Gate(Failing):
    async def acquire(self, call: Call) -> Permit | None:
        await self._fail()
        return None


class Shelf(Failing):
    def route(self, call: Call) -> list[Target]:
        return []

    async def models(self, call: Call) -> list[Model]:
        await self._fail()
        return []


def plugin(kind: str, item: object, **others: Any) -> object:
    return plugin_of(providers=[FakeProvider(models=["fake-model"])], **{kind: [item]}, **others)


HOOKS = {"authenticators": Door, "limiters": Gate, "routers": Shelf}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", HOOKS)
async def test_a_closed_hook_that_fails_refuses_the_request(
    wire: Any, records: Any, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    """Nobody gets past a broken door: 503, without a word of why, and the log names the object."""
    gateway = make_gateway(plugin(kind, HOOKS[kind](way, "closed"), observers=[records]))
    async with gateway:
        done = await wire(gateway, "/v1/models", "GET").run()
    assert (done.status, done.error["code"]) == (503, "unavailable")
    assert "private" not in done.text
    assert records.only.outcome == "refused"
    assert any("failing" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", HOOKS)
async def test_an_open_hook_that_fails_is_passed_over(
    wire: Any, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    """The request goes on as if it were not there; the log names the object all the same."""
    gateway = make_gateway(plugin(kind, HOOKS[kind](way, "open")))
    async with gateway:
        done = await wire(gateway, "/v1/models", "GET").run()
    assert done.status == 200
    assert "fake-model" in done.text
    assert any("failing" in record.getMessage() for record in caplog.records)


async def test_the_setting_is_the_deadline_of_those_that_declare_none(wire: Any) -> None:
    """``timeouts.hook`` holds for every asynchronous hook."""
    door = Door("hangs", "closed")
    door.deadline = None  # type: ignore[assignment]
    gateway = make_gateway(plugin("authenticators", door), timeouts={"hook": 0.02})
    async with gateway:
        assert (await wire(gateway).ask().run()).status == 503


async def test_what_a_plugin_decides_is_no_defect(wire: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An error of the gateway's own tree reaches the client as it is, also from a hook that is open."""

    class Strict(Failing):
        async def acquire(self, call: Call) -> Permit | None:
            raise PermissionDenied("Not on Sundays.")

    gateway = make_gateway(plugin("limiters", Strict("raises", "open")))
    async with gateway:
        done = await wire(gateway).ask().run()
    assert (done.status, done.error["message"]) == (403, "Not on Sundays.")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_authenticator_that_refuses_ends_the_asking_with_a_challenge(wire: Any) -> None:
    """Credentials of its kind that are bad are bad: no later authenticator is asked. Every 401 says what to send."""
    asked: list[str] = []

    class Refusing:
        def __init__(self, name: str, **raised: Any) -> None:
            self.name = name
            self._raised = raised

        async def authenticate(self, incoming: Incoming) -> Principal | None:
            asked.append(self.name)
            raise AuthFailed("This token has expired.", **self._raised)

    for raised, challenge in (
        ({}, 'Bearer realm="gatewaykit"'),
        ({"headers": [("WWW-Authenticate", 'Bearer error="invalid_token"')]}, 'Bearer error="invalid_token"'),
    ):
        asked.clear()
        doors = [Refusing("first", **raised), Refusing("second")]
        gateway = make_gateway(plugin_of(authenticators=doors), static_keys={})
        async with gateway:
            done = await wire(gateway).ask().run()
        assert (done.status, done.error["message"]) == (401, "This token has expired.")
        names = [name.decode().lower() for name, _ in done.sent[0]["headers"]]
        assert names.count("www-authenticate") == 1
        assert done.headers["www-authenticate"] == challenge
        assert asked == ["first"]


# Transforms and routers, which may not wait


class Broken(Transform):
    name = "broken"

    def __init__(self, on_error: str) -> None:
        self.on_error = on_error  # type: ignore[assignment]


class BrokenRequest(Broken):
    def on_request(self, call: Call) -> None:
        raise LookupError("private detail")


class BrokenEvent(Broken):
    def on_event(self, call: Call, event: Event) -> Event | None:
        raise LookupError("private detail")


class BrokenReply(Broken):
    def on_reply(self, call: Call, reply: Reply) -> Reply:
        raise LookupError("private detail")


@pytest.mark.parametrize("kind", [BrokenRequest, BrokenEvent, BrokenReply])
async def test_a_transform_that_fails_costs_what_it_says(wire: Any, records: Any, kind: Any) -> None:
    """Closed: a 500 without a word of why. Open: the answer as it would be without it."""
    for on_error, status, outcome in (("closed", 500, "failed"), ("open", 200, "done")):
        gateway = make_gateway(plugin("transforms", kind(on_error), observers=[records]))
        async with gateway:
            done = await wire(gateway).ask().run()
        assert done.status == status
        assert "private" not in done.text
        assert "Hello!" in done.text or on_error == "closed"
        assert records.seen[-1].outcome == outcome


async def test_a_transform_that_fails_in_mid_stream_ends_the_stream_with_an_error(wire: Any, records: Any) -> None:
    """The client hears of it in the stream, the provider is closed."""

    class Late(Transform):
        name = "late"

        def on_event(self, call: Call, event: Event) -> Event | None:
            if event == TextDelta("two"):
                raise LookupError("private detail")
            return event

    gate = asyncio.Event()
    provider = FakeProvider(TextDelta("one"), gate, TextDelta("two"), asyncio.Event())
    gateway = make_gateway(plugin_of(providers=[provider], transforms=[Late()], observers=[records]))
    async with gateway:
        request = wire(gateway).ask(stream=True)
        request.on_send = gate.set
        done = await request.run()
    assert (done.status, done.error["code"]) == (200, "internal_error")
    assert "private" not in done.text
    assert "[DONE]" not in done.text
    assert provider.closed == 1
    assert (records.only.outcome, records.only.status) == ("failed", 200)


@pytest.mark.parametrize(("on_error", "status"), [("closed", 500), ("open", 200)])
async def test_a_router_that_fails_costs_what_it_says(wire: Any, on_error: str, status: int) -> None:
    """Open: the next router is asked."""

    class Astray(Shelf):
        def route(self, call: Call) -> list[Target]:
            raise LookupError("private detail")

    gateway = make_gateway(plugin("routers", Astray("raises", on_error)))
    async with gateway:
        assert (await wire(gateway).ask().run()).status == status


@pytest.mark.parametrize("stream", [False, True])
async def test_an_around_that_fails_is_a_500(wire: Any, records: Any, stream: bool) -> None:
    """It holds the whole call in its hands, so nothing can go on without it."""

    class Shaky(AroundCall):
        name = "shaky"

        async def around(self, call: Call, proceed: Any) -> AsyncIterator[Event]:
            raise LookupError("private detail")
            yield

    gateway = make_gateway(plugin("around_calls", Shaky(), observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    assert (done.status, done.error["code"]) == (500, "internal_error")
    assert "private" not in done.text
    assert records.only.outcome == "failed"


# Results that are not what the types say


class Odd:
    """Gives ``gives`` wherever it is asked."""

    name = "failing"
    tier = -10

    def __init__(self, gives: Any) -> None:
        self.gives = gives


class OddDoor(Odd, Authenticator):
    async def authenticate(self, incoming: Incoming) -> Any:
        return self.gives


class OddEvent(Odd, Transform):
    def on_event(self, call: Call, event: Event) -> Any:
        return self.gives


class OddReply(Odd, Transform):
    def on_reply(self, call: Call, reply: Reply) -> Any:
        return self.gives


ODD_HOOKS = {
    "principal": ("authenticators", OddDoor("bob"), 503),
    "truth": ("authenticators", OddDoor(True), 503),
    "event": ("transforms", OddEvent("text"), 500),
    "events": ("transforms", OddEvent([TextDelta("text")]), 500),
    "reply": ("transforms", OddReply(None), 500),
}


@pytest.mark.parametrize(("kind", "item", "status"), ODD_HOOKS.values(), ids=ODD_HOOKS.keys())
async def test_a_result_of_another_type_is_a_failure_of_who_gave_it(
    wire: Any, records: Any, caplog: pytest.LogCaptureFixture, kind: str, item: Any, status: int
) -> None:
    """It counts as if the hook had raised: one answer, one record, and the log names the object."""
    gateway = make_gateway(plugin(kind, item, observers=[records]))
    async with gateway:
        done = await wire(gateway).ask().run()
    assert (done.status, done.ended) == (status, True)
    assert records.only.status == status
    assert any("failing" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("gives", ["text", [TextDelta("text")], object()])
async def test_a_stream_whose_events_are_none_has_no_good_end(wire: Any, records: Any, gives: Any) -> None:
    """A transform that gives anything but an event ends the stream with an error, not with ``[DONE]``."""
    gateway = make_gateway(plugin("transforms", OddEvent(gives), observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert done.error["code"] == "internal_error"
    assert "[DONE]" not in done.text
    assert records.only.outcome == "failed"


async def test_a_router_may_give_none(wire: Any) -> None:
    """It does not know the model: the next one is asked."""

    class Unknowing(Shelf):
        def route(self, call: Call) -> Any:
            return None

        async def models(self, call: Call) -> list[Model]:
            return []

    gateway = make_gateway(plugin("routers", Unknowing("", "closed")))
    async with gateway:
        assert (await wire(gateway).ask().run()).status == 200


class OddProvider(Provider):
    name = "odd"

    def __init__(self, events: list[Any], reply: Any = None) -> None:
        self._events = events
        self._reply = reply

    async def stream(self, call: Call, target: Target) -> Any:
        for event in self._events:
            yield event

    async def complete(self, call: Call, target: Target) -> Any:
        return self._reply


@pytest.mark.parametrize("provider", [OddProvider(["text", Finished()]), OddProvider([], "text")])
async def test_a_provider_whose_answer_is_none(wire: Any, records: Any, provider: Provider) -> None:
    """Events that are no events, and a reply that is none, are a bad answer, not an empty one."""
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]))
    async with gateway:
        for stream in (False, True):
            done = await wire(gateway).ask(stream=stream).run()
            assert done.error["code"] == "provider_bad_answer"
            assert "[DONE]" not in done.text
    assert [record.outcome for record in records.seen] == ["provider_error"] * 2


class Labelled(Limiter):
    """Gives permits with these headers."""

    name = "labelled"

    def __init__(self, headers: Any) -> None:
        self.headers = headers

    async def acquire(self, call: Call) -> Any:
        return self

    async def settle(self, usage: Any) -> None:
        pass

    async def release(self) -> None:
        pass


class Leaving(Transform):
    """Leaves these in the call."""

    name = "leaving"

    def __init__(self, **left: Any) -> None:
        self._left = left

    def on_request(self, call: Call) -> None:
        for name, value in self._left.items():
            setattr(call, name, value)


ODD_LEFTOVERS = {
    "headers in a table": ("limiters", Labelled({"x-left": "1"})),
    "a number in a header": ("limiters", Labelled([("x-left", 1)])),
    "a header's name": ("limiters", Labelled([("x-остаток", "1")])),
    "answer headers": ("transforms", Leaving(answer_headers={"x-left": "1"})),
    "a request": ("transforms", Leaving(request="text")),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "item"), ODD_LEFTOVERS.values(), ids=ODD_LEFTOVERS.keys())
async def test_what_cannot_be_written_is_a_500_with_a_record(
    wire: Any, records: Any, kind: str, item: Any, stream: bool
) -> None:
    """Headers that are none, or a request that is none, break neither the error's answer nor the record."""
    gateway = make_gateway(plugin(kind, item, observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    assert (done.status, done.error["code"], done.ended) == (500, "internal_error", True)
    assert (records.only.status, records.only.outcome) == (500, "failed")


# Cancellations that nobody asked for: of a task or a future that a plugin waited for


async def let_out() -> None:
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    await cancelled


class LetsOut(Authenticator, Limiter, AroundCall, Provider):
    """Waits for something that somebody else has cancelled, after the ``first`` events."""

    name = "lets-out"
    tier = -10

    def __init__(self, *first: Event) -> None:
        self._first = first

    async def authenticate(self, incoming: Incoming) -> Any:
        await let_out()

    async def acquire(self, call: Call) -> Any:
        await let_out()

    async def around(self, call: Call, proceed: Any) -> AsyncIterator[Event]:
        for event in self._first:
            yield event
        await let_out()

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        for event in self._first:
            yield event
        await let_out()


LETTING_OUT = {
    "authenticators": (503, "unavailable", "refused"),
    "limiters": (503, "unavailable", "refused"),
    "around_calls": (500, "internal_error", "failed"),
    "providers": (502, "provider_error", "provider_error"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", LETTING_OUT)
async def test_a_cancellation_that_a_plugin_lets_out_is_its_failure(
    wire: Any, records: Any, kind: str, stream: bool
) -> None:
    """The client is there, and gets an error; the record does not say that it had left."""
    others = {} if kind == "providers" else {"providers": [FakeProvider()]}
    gateway = make_gateway(plugin_of(**{kind: [LetsOut()]}, **others, observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    status, code, outcome = LETTING_OUT[kind]
    assert (done.status, done.error["code"], done.ended) == (status, code, True)
    assert (records.only.status, records.only.outcome) == (status, outcome)


@pytest.mark.parametrize("kind", ["around_calls", "providers"])
async def test_a_cancellation_that_is_let_out_in_mid_stream_ends_it_with_an_error(
    wire: Any, records: Any, kind: str
) -> None:
    """The stream has an error at its end, and no ``[DONE]``."""
    others = {} if kind == "providers" else {"providers": [FakeProvider()]}
    gateway = make_gateway(plugin_of(**{kind: [LetsOut(TextDelta("one"))]}, **others, observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    _, code, outcome = LETTING_OUT[kind]
    assert (done.status, done.error["code"], done.ended) == (200, code, True)
    assert "one" in done.text
    assert "[DONE]" not in done.text
    assert records.only.outcome == outcome


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_hangs_as_it_cleans_up_holds_no_call(
    wire: Any, records: Any, limiter: Any, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """A call that was cut off, and whose provider does not come back, is cut off once more: the client hears of it, the
    permit is left, and there is a record.
    """

    class Clinging(FakeProvider):
        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            try:
                yield TextDelta("one")
                await asyncio.Event().wait()
            finally:
                await asyncio.Event().wait()

    monkeypatch.setattr(watch, "LEAVE_SECONDS", 0.01)
    book: list[Any] = []
    parts = {"providers": [Clinging()], "limiters": [limiter("one", book)], "observers": [records]}
    gateway = make_gateway(plugin_of(**parts), timeouts={"whole_call": 0.1})
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    assert done.error["code"] == "provider_timeout"
    assert [entry[1] for entry in book] == ["acquired", "settled" if stream else "released"]
    assert records.only.outcome == "timeout"
