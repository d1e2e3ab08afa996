"""A stream: what leaves when, who may stop it, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gatewaykit import (
    AroundCall,
    Call,
    Event,
    Finished,
    ProviderUnavailable,
    Raw,
    ReasoningDelta,
    Started,
    Target,
    TextDelta,
    Transform,
    Usage,
)
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of, until
from gatewaykit.watch import LISTEN_AFTER

NEVER = asyncio.Event
WORD = TextDelta("word")


def texts(wire: Any) -> list[str]:
    """The text of each write that has any."""
    found = []
    for write in wire.writes:
        frames = [frame[6:] for frame in write.decode().split("\n\n") if frame.startswith("data: {")]
        deltas = [choice["delta"] for frame in frames for choice in json.loads(frame).get("choices", ())]
        found.append("".join(delta.get("content") or "" for delta in deltas))
    return [text for text in found if text]


# What leaves when


async def test_events_at_hand_leave_in_one_send(wire: Any) -> None:
    """A hundred events of one network read cost one write, not a hundred."""
    words = [TextDelta(f"{number} ") for number in range(100)]
    gateway = make_gateway(plugin_of(providers=[FakeProvider(*words, Finished())]))
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert [message["type"] for message in done.sent] == ["http.response.start", "http.response.body"]
    assert texts(done) == ["".join(word.text for word in words)]


async def test_what_is_there_leaves_before_the_provider_is_waited_for(wire: Any) -> None:
    """Each pause of the provider ends a write: nothing is held back for more to come."""
    gates = [asyncio.Event() for _ in range(3)]
    script = [line for gate in gates for line in (WORD, WORD, gate)]
    gateway = make_gateway(plugin_of(providers=[FakeProvider(*script, Finished())]))
    async with gateway:
        request = wire(gateway).ask(stream=True)
        task = asyncio.create_task(request.run())
        for number, gate in enumerate(gates, 1):
            await until(lambda number=number: texts(request) == ["wordword"] * number)
            gate.set()
        await task
    assert request.ended


async def test_a_provider_that_never_waits_does_not_fill_the_memory(wire: Any) -> None:
    """Ten thousand events without a pause leave in batches, while they come."""
    events = [TextDelta("x")] * 10_000
    gateway = make_gateway(plugin_of(providers=[FakeProvider(*events, Finished())]))
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert "".join(texts(done)) == "x" * 10_000
    assert len(done.writes) > 20


async def test_the_response_starts_with_the_first_event_and_not_before(wire: Any) -> None:
    """While a provider thinks there is no status line; an error can still become a status."""
    gate = asyncio.Event()
    gateway = make_gateway(plugin_of(providers=[FakeProvider(gate, ProviderUnavailable())]))
    async with gateway:
        request = wire(gateway).ask(stream=True)
        task = asyncio.create_task(request.run())
        await until(lambda: gateway.providers["fake"].opened)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        assert not request.sent
        gate.set()
        await task
    assert request.status == 503


async def test_the_headers_of_a_stream_keep_it_flowing(wire: Any) -> None:
    """No store, no proxy buffer, no length; the id, the target, the timing and what was ignored."""
    script = [Started("m-1", ignored=("seed", "logit_bias")), WORD, Finished()]
    gateway = make_gateway(plugin_of(providers=[FakeProvider(*script)]))
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert done.headers["cache-control"] == "no-store"
    assert done.headers["x-accel-buffering"] == "no"
    assert "content-length" not in done.headers
    assert done.headers["x-gatewaykit-target"] == "fake/m"
    assert done.headers["x-gatewaykit-ignored"] == "seed, logit_bias"
    assert len(done.headers["x-request-id"]) == 32


# Silence


async def test_an_idle_stream_is_kept_alive_by_comments(wire: Any) -> None:
    """While the provider is silent the client gets comments, each whole, between frames and in no frame."""
    gate = asyncio.Event()
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider(WORD, gate, WORD, Finished())]), timeouts={"keepalive_comment": 0.02}
    )
    async with gateway:
        request = wire(gateway).ask(stream=True)
        task = asyncio.create_task(request.run())
        await until(lambda: request.writes.count(b": keep-alive\n\n") >= 3)
        gate.set()
        await task
    assert texts(request) == ["word", "word"]
    assert request.text.endswith("data: [DONE]\n\n")
    assert not any(b": keep-alive" in write and write != b": keep-alive\n\n" for write in request.writes)


async def test_a_stream_in_which_something_happens_needs_no_comments(wire: Any) -> None:
    """A comment is sent only after silence."""
    gate = asyncio.Event()
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider(WORD, gate, Finished())]), timeouts={"keepalive_comment": 5}
    )
    async with gateway:
        request = wire(gateway).ask(stream=True)
        task = asyncio.create_task(request.run())
        await until(lambda: texts(request))
        gate.set()
        await task
    assert b": keep-alive" not in request.text.encode()


@pytest.mark.parametrize(
    ("limit", "script", "stream", "status"),
    [
        ("first_event", (NEVER,), True, 504),
        ("first_event", (NEVER,), False, 504),
        ("between_events", (WORD, NEVER), True, 200),
        ("whole_call", (WORD, NEVER), True, 200),
        ("whole_call", (NEVER,), True, 504),
        ("whole_call", (NEVER,), False, 504),
    ],
)
async def test_each_limit_of_time_ends_the_call(
    wire: Any, records: Any, limit: str, script: Any, stream: bool, status: int
) -> None:
    """A provider that stops is closed; the client hears of it by status or, later, by an error frame."""
    provider = FakeProvider(*(line() if line is NEVER else line for line in script))
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]), timeouts={limit: 0.05})
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    assert done.status == status
    assert done.error["code"] == "provider_timeout"
    assert done.ended
    assert provider.closed == provider.cancelled == 1
    assert (records.only.outcome, records.only.error) == ("timeout", "provider_timeout")


async def test_a_provider_that_does_not_begin_in_time_is_left_for_another(wire: Any, records: Any) -> None:
    """The limit until the first event holds for each attempt."""
    slow, quick = FakeProvider(NEVER(), name="slow"), FakeProvider(name="quick")
    gateway = make_gateway(
        plugin_of(providers=[slow, quick], observers=[records]),
        router={"aliases": {"m": ["slow/a", "quick/b"]}},
        timeouts={"first_event": 0.05},
    )
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert (done.status, done.headers["x-gatewaykit-target"]) == (200, "quick/b")
    assert [attempt.error for attempt in records.only.attempts] == ["provider_timeout", None]
    assert records.only.attempts[0].seconds >= 0.05
    assert slow.cancelled == 1


async def test_a_stream_with_steady_events_outlives_the_limit_between_them(wire: Any) -> None:
    """The limit counts from the last event, not from the first."""

    class Steady(FakeProvider):
        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            for _ in range(8):
                yield WORD
                await asyncio.sleep(0.05)
            yield Finished()

    gateway = make_gateway(plugin_of(providers=[Steady()]), timeouts={"between_events": 0.2})
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert done.text.endswith("data: [DONE]\n\n")


async def test_a_provider_that_blocks_the_loop_past_a_limit_ends_cleanly(wire: Any, records: Any) -> None:
    """When the limit has passed by the time the first event goes out, the call ends as at any other time."""

    class Blocking(FakeProvider):
        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            time.sleep(0.1)
            yield WORD
            yield Finished()

    gateway = make_gateway(plugin_of(providers=[Blocking()], observers=[records]), timeouts={"whole_call": 0.05})
    async with gateway:
        task = asyncio.create_task(wire(gateway).ask(stream=True).run())
        done = await task
        assert task.cancelling() == 0
    assert done.ended
    assert records.only.outcome in {"done", "timeout"}


# The client leaves


class Tidy(FakeProvider):
    """Closes what it opened, and has to wait for that."""

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.opened += 1
        try:
            for line in self.script:
                if isinstance(line, asyncio.Event):
                    await line.wait()
                else:
                    yield line  # type: ignore[misc]
        finally:
            await asyncio.sleep(0)
            self.closed += 1


class Around(AroundCall):
    """Passes on what comes, without a thought of closing it."""

    name = "around"

    async def around(self, call: Call, proceed: Any) -> AsyncIterator[Event]:
        async for event in proceed(call):
            yield event


@pytest.mark.parametrize("raises", [False, True], ids=["silent", "raising"])
@pytest.mark.parametrize("arounds", [[], [Around()]], ids=["bare", "wrapped"])
@pytest.mark.parametrize(
    ("script", "stream"),
    [((NEVER,), True), ((NEVER,), False), ((WORD, NEVER), True), ((WORD, NEVER), False)],
    ids=["before, streamed", "before", "in the middle, streamed", "in the middle"],
)
async def test_a_client_that_leaves_closes_the_provider_at_once(
    wire: Any, records: Any, limiter: Any, script: Any, stream: bool, arounds: list[Any], raises: bool
) -> None:
    """Some turns of the event loop later no task, generator or permit is left; what was generated is on record."""
    book: list[Any] = []
    provider = Tidy(*(line() if line is NEVER else line for line in script))
    gateway = make_gateway(
        plugin_of(providers=[provider], observers=[records], limiters=[limiter("one", book)], around_calls=arounds)
    )
    generators = count_generators()
    async with gateway:
        tasks = asyncio.all_tasks()
        request = wire(gateway).ask(stream=stream)
        request.raises = raises
        task = asyncio.create_task(request.run())
        await until(lambda: provider.opened and (len(script) == 1 or not stream or texts(request)))
        await until(lambda: request.listened_to)
        request.hang_up()
        for _ in range(20):
            await asyncio.sleep(0)
        assert provider.closed == 1
        assert task.done()
        await until(lambda: asyncio.all_tasks() <= tasks)
    assert count_generators() == generators
    began = len(script) == 2 and stream
    assert (records.only.outcome, records.only.error) == ("client_gone", "client_gone")
    assert records.only.status == (200 if began else 499)
    assert (records.only.usage is not None) is began
    assert [attempt.error for attempt in records.only.attempts] == [None if began else "cancelled"]
    assert [entry[1] for entry in book] == ["acquired", "settled" if began else "released"]
    assert not request.text.endswith("[DONE]\n\n")
    assert "error" not in request.text


def test_a_client_is_listened_to_soon_enough() -> None:
    """A client that leaves is noticed within 100 ms, also when it leaves right after its request."""
    assert LISTEN_AFTER < 0.1


def count_generators() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing).__name__ == "async_generator")


async def test_a_server_that_raises_for_a_client_that_left_ends_the_stream(wire: Any, records: Any) -> None:
    """Servers of ASGI 2.4 raise from send: the provider is closed although it waits for nothing."""
    provider = FakeProvider(*[WORD] * 1000, Finished())
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]))
    async with gateway:
        request = wire(gateway).ask(stream=True)
        request.raises = True
        request.on_send = lambda: request.hang_up() if request.writes else None
        await request.run()
    assert provider.closed == 1
    assert records.only.outcome == "client_gone"
    assert not request.ended


async def test_a_comment_that_cannot_be_sent_ends_the_stream(wire: Any, records: Any) -> None:
    """With a server that raises from send and does not report the disconnect, a comment finds out."""
    provider = FakeProvider(WORD, NEVER())
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]), timeouts={"keepalive_comment": 0.02})
    async with gateway:
        tasks = asyncio.all_tasks()
        request = wire(gateway).ask(stream=True)

        async def deaf() -> Any:
            return await asyncio.Event().wait()

        request.raises = True
        receive = request._receive

        async def receive_once() -> Any:
            return await receive() if request.pieces else await deaf()

        task = asyncio.create_task(gateway(request.scope, receive_once, request._send))
        await until(lambda: texts(request))
        request.hang_up()
        await task
        await until(lambda: asyncio.all_tasks() <= tasks)
    assert provider.cancelled == 1
    assert records.only.outcome == "client_gone"


async def test_a_server_that_is_stopped_ends_the_call(wire: Any, records: Any) -> None:
    """Cancellation from outside passes through, and is recorded."""
    provider = FakeProvider(WORD, NEVER())
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]))
    async with gateway:
        request = wire(gateway).ask(stream=True)
        task = asyncio.create_task(request.run())
        await until(lambda: texts(request))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert provider.cancelled == 1
    assert records.only.outcome == "client_gone"


async def test_a_cancellation_that_meets_a_client_that_leaves_is_not_lost(wire: Any) -> None:
    """When a server stops a call while its provider is being closed for another reason, the task ends as cancelled."""
    closing = asyncio.Event()

    class Slow(FakeProvider):
        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            try:
                yield WORD
                await NEVER().wait()
            finally:
                closing.set()
                await NEVER().wait()

    gateway = make_gateway(plugin_of(providers=[Slow()]))
    async with gateway:
        request = wire(gateway).ask(stream=True)
        task = asyncio.create_task(request.run())
        await until(lambda: texts(request))
        request.hang_up()
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Transforms and raw bytes


class Censor(Transform):
    name = "censor"

    def __init__(self, drop: Callable[[Event], bool]) -> None:
        self._drop = drop

    def on_event(self, call: Call, event: Event) -> Event | None:
        return None if self._drop(event) else event


@pytest.mark.parametrize("stream", [False, True])
async def test_an_event_that_is_dropped_does_not_reach_the_client_and_is_accounted(
    wire: Any, records: Any, stream: bool
) -> None:
    """Usage is of what the provider made, not of what the client may see."""
    provider = FakeProvider(ReasoningDelta("secret"), TextDelta("public"), Finished(), Usage(3, 9))
    censor = Censor(lambda event: isinstance(event, ReasoningDelta))
    gateway = make_gateway(plugin_of(providers=[provider], transforms=[censor], observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=stream).run()
    assert "secret" not in done.text
    assert "public" in done.text
    assert records.only.usage == Usage(3, 9)


async def test_a_stream_of_which_everything_is_dropped_is_still_a_whole_stream(wire: Any) -> None:
    """It starts, and ends with the end mark."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], transforms=[Censor(lambda event: True)]))
    async with gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert (done.status, done.text) == (200, "data: [DONE]\n\n")


async def test_transforms_see_one_another_s_events_in_order(wire: Any) -> None:
    """The second transform gets what the first made of it, and nothing that the first dropped."""

    class Add(Transform):
        def __init__(self, letter: str, **order: Any) -> None:
            self.name = letter
            self.__dict__.update(order)

        def on_event(self, call: Call, event: Event) -> Event | None:
            return TextDelta(event.text + self.name) if isinstance(event, TextDelta) else event

    transforms = [Add("c"), Add("a", before=("b",)), Add("b", before=("c",))]
    gateway = make_gateway(plugin_of(providers=[FakeProvider(TextDelta(""), Finished())], transforms=transforms))
    async with gateway:
        assert texts(await wire(gateway).ask(stream=True).run()) == ["abc"]


class Native(FakeProvider):
    """Speaks the client's dialect, and notes whether it may."""

    native_dialects = frozenset({"openai_chat"})

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[str | None] = []

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.raw.append(call.raw_dialect)
        yield Raw(b'data: {"odd":  "bytes"}\n\n' if call.request.stream else b'{"odd":  "bytes"}', 12)
        if call.request.stream:
            yield Finished()
            yield Usage(3, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_raw_bytes_pass_untouched(wire: Any, records: Any, stream: bool) -> None:
    """The client gets the provider's own bytes; the events beside them are for the record alone."""
    provider = Native()
    gateway = make_gateway(plugin_of(providers=[provider], observers=[records]))
    async with gateway:
        done = await wire(gateway).ask(stream=stream, include="all").run()
    assert provider.raw == ["openai_chat"]
    assert done.text == ('data: {"odd":  "bytes"}\n\ndata: [DONE]\n\n' if stream else '{"odd":  "bytes"}')
    usage = records.only.usage
    assert usage is not None
    assert usage.estimated is not stream


class Rewrite(Transform):
    name = "rewrite"

    def __init__(self, changes: bool) -> None:
        self._changes = changes

    def on_request(self, call: Call) -> None:
        if self._changes:
            from msgspec.structs import replace

            call.request = replace(call.chat, temperature=0.5)


class Reply(Transform):
    name = "reply"

    def on_reply(self, call: Call, reply: Any) -> Any:
        return reply


@pytest.mark.parametrize(
    ("transform", "raw_answer", "raw_stream"),
    [
        (Rewrite(changes=False), True, True),
        (Rewrite(changes=True), False, False),
        (Censor(lambda event: False), False, False),
        (Reply(), False, True),
    ],
    ids=["looks at the request", "changes the request", "sees events", "sees replies"],
)
async def test_bytes_pass_unread_only_while_nobody_has_a_say_in_them(
    wire: Any, transform: Any, raw_answer: bool, raw_stream: bool
) -> None:
    """A transform that changes the request or wants to see the answer makes the provider translate."""
    provider = Native()
    gateway = make_gateway(plugin_of(providers=[provider], transforms=[transform]))
    async with gateway:
        for stream in (False, True):
            await wire(gateway).ask(stream=stream).run()
    assert provider.raw == ["openai_chat" if raw else None for raw in (raw_answer, raw_stream)]


async def test_an_error_right_behind_the_first_event_is_in_the_stream(wire: Any) -> None:
    """Text and error that come together: the text is delivered, and the error follows it in the stream."""
    provider = FakeProvider(TextDelta("half"), ProviderUnavailable())
    async with make_gateway(plugin_of(providers=[provider])) as gateway:
        done = await wire(gateway).ask(stream=True).run()
    assert done.status == 200
    assert '"content":"half"' in done.text
    assert done.error["code"] == "provider_unavailable"
    assert done.ended
    assert "[DONE]" not in done.text
