"""From bytes to batches of events, with no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import GatewayError, ProviderBadAnswer, ProviderUnavailable
from gatewaykit.sse import FrameSplitter
from gatewaykit.types import Event, Finished, TextDelta
from gatewaykit_gigachat.streaming import event_batches


class Letters:
    """Reads ``{"t": text}`` and ``{"end": true}``."""

    finished = False

    def read(self, document: dict[str, Any]) -> list[Event]:
        if "end" in document:
            self.finished = True
            return [Finished("stop")]
        return [TextDelta(letter) for letter in document["t"]]

    def end(self, *, done: bool = False) -> list[Event]:
        if not self.finished:
            raise ProviderUnavailable("broke off")
        return []


async def cut(stream: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    """``stream`` as a network would bring it."""
    splitter, at = FrameSplitter(), 0
    for size in [*sizes, len(stream)]:
        if block := splitter.feed(stream[at : at + size]):
            yield block
        at += size
    if block := splitter.flush():
        yield block


async def read(stream: bytes, sizes: list[int]) -> tuple[list[Event], type[GatewayError] | None]:
    """All events, and how it failed."""
    events: list[Event] = []
    try:
        async with aclosing(event_batches(cut(stream, sizes), Letters())) as batches:
            async for batch in batches:
                assert batch
                events += batch
    except GatewayError as error:
        return events, type(error)
    return events, None


def run(stream: bytes, *sizes: int) -> tuple[list[Event], type[GatewayError] | None]:
    return asyncio.run(read(stream, list(sizes)))


WHOLE = b'data: {"t":"ab"}\n\n: comment\n\ndata: {"t":""}\n\ndata:{"t":"c"}\r\n\r\ndata: {"end":1}\n\ndata: [DONE]\n\n'
EVENTS = [TextDelta("a"), TextDelta("b"), TextDelta("c"), Finished("stop")]


@given(st.lists(st.integers(1, 40), max_size=40))
def test_any_cut_gives_the_same_events(sizes: list[int]) -> None:
    """Where the network cuts the stream does not change what is read."""
    assert run(WHOLE, *sizes) == (EVENTS, None)


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(0, len(WHOLE) - 1))
def test_a_stream_cut_off_is_never_taken_for_whole(sizes: list[int], end: int) -> None:
    """What came before a break is given; without the finish the break is an error."""
    events, failure = run(WHOLE[:end], *sizes)
    assert events == EVENTS[: len(events)]
    assert (failure is None) == (Finished("stop") in events)


@pytest.mark.parametrize(
    "fault", [b"{", b"[]", b"7", b"nonsense", b'"text"', b"\xff\xfe", b'{"t":"\xff"}', b"[" * 5000]
)
def test_garbage_ends_the_stream_behind_what_came(fault: bytes) -> None:
    """An event that is no JSON object is ProviderBadAnswer, after the events before it, in one read or in many."""
    stream = b'data: {"t":"ab"}\n\ndata: ' + fault + b'\n\ndata: {"end":1}\n\n'
    for size in (1, 5, len(stream)):
        assert run(stream, *[size] * len(stream)) == (EVENTS[:2], ProviderBadAnswer)


def test_nothing_behind_done_is_read() -> None:
    """``[DONE]`` ends the answer, whatever follows."""
    assert run(WHOLE + b'data: {"t":"x"}\n\ndata: {') == (EVENTS, None)


def test_an_empty_stream_is_a_failure() -> None:
    """A stream without any event is no answer."""
    assert run(b"") == ([], ProviderUnavailable)


async def test_a_server_that_keeps_the_body_open_behind_done_holds_nobody() -> None:
    """After ``[DONE]`` the end of the body is awaited for a moment only."""

    async def endless() -> AsyncIterator[bytes]:
        yield WHOLE.replace(b"\r", b"")
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        assert [batch async for batch in event_batches(endless(), Letters())] == [EVENTS]
