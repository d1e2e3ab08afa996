"""Answers as ASGI applications: a JSON document, an event stream, bytes; each can go wrong by script."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .call import Call
from .faults import Fault
from .wire import ClientLeft, Departure

JSON_TYPE = "application/json; charset=utf-8"
DONE = b"data: [DONE]\n\n"
GARBAGE_EVENT = b"data: <<<this is not JSON>>>\n\n"
GARBAGE_BODY = b"<<<this is not JSON>>>"
SLOW_PIECES = 8


class _Turn(enum.Enum):
    """What happens to the connection in place of more bytes."""

    CUT = enum.auto()
    STALL = enum.auto()
    END = enum.auto()


async def _start(send: Send, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})


@dataclass(frozen=True)
class _Writer:
    """Sends pieces of one body, minding the fault's pace and piece size."""

    call: Call
    send: Send
    departure: Departure
    interval: float

    async def write(self, data: bytes) -> None:
        size = self.call.fault.split or len(data) or 1
        for start in range(0, len(data), size):
            await self.send({"type": "http.response.body", "body": data[start : start + size], "more_body": True})
            # Lets the server notice a client that left, and send each piece by itself.
            await asyncio.sleep(0)

    async def turn(self, turn: _Turn) -> None:
        if turn is _Turn.CUT:
            await self.call.wire.cut(flush=True)
        elif turn is _Turn.STALL:
            await self.departure.forever()

    async def play(self, script: Iterator[bytes | _Turn]) -> None:
        first = True
        for step in script:
            if isinstance(step, _Turn):
                await self.turn(step)
                break
            if not first and self.interval:
                await self.departure.pause(self.interval)
            first = False
            await self.write(step)
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})


class JsonReply:
    """A JSON document with status 200, compact and without a trailing newline."""

    def __init__(self, call: Call, payload: Any, content_type: str = JSON_TYPE) -> None:
        self._call = call
        self._content_type = content_type
        self._body = msgspec.json.encode(payload)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._call.fault
        body = GARBAGE_BODY if fault.garbage is not None else self._body
        if fault.half_line is not None:
            body = body[: len(body) // 2]
        headers = {**self._call.headers, "content-type": self._content_type, "content-length": str(len(body))}
        async with self._call.wire.watch() as departure:
            await _start(send, headers)
            await _Writer(self._call, send, departure, fault.slow).play(_body_script(body, fault))


def _body_script(body: bytes, fault: Fault) -> Iterator[bytes | _Turn]:
    if fault.stall is not None:
        yield _Turn.STALL
    elif fault.drop_after is not None:
        yield body[: len(body) // 2]
        yield _Turn.CUT
    elif fault.slow:
        size = max(1, -(-len(body) // SLOW_PIECES))
        yield from (body[start : start + size] for start in range(0, len(body), size))
    else:
        yield body


class StreamReply:
    """Server-sent events: one ``data:`` line each, then ``[DONE]``; ``interval`` seconds between them."""

    def __init__(self, call: Call, events: Sequence[Any], interval: float) -> None:
        self._call = call
        self._interval = max(interval, call.fault.slow)
        self._events = [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events]
        if not call.fault.no_done:
            self._events.append(DONE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stats, fault = self._call.sandbox.stats, self._call.fault
        stats.live_streams += 1
        try:
            async with self._call.wire.watch() as departure:
                await _start(send, {**self._call.headers, "content-type": "text/event-stream"})
                writer = _Writer(self._call, send, departure, self._interval)
                await writer.play(_stream_script(self._events, fault))
            stats.finished_streams += 1
        except ClientLeft:
            stats.cancelled_streams += 0 if self._call.wire.severed else 1
        finally:
            stats.live_streams -= 1


def _stream_script(events: Sequence[bytes], fault: Fault) -> Iterator[bytes | _Turn]:
    for sent, event in enumerate(events):
        if fault.drop_after == sent:
            yield _Turn.CUT
        if fault.stall == sent:
            yield _Turn.STALL
        if fault.half_line == sent + 1:
            yield event[: len(event) // 2]
            yield _Turn.END
        yield GARBAGE_EVENT if fault.garbage == sent + 1 else event


def json_response(payload: Any) -> Response:
    """A JSON document outside of the API: no fault and no API headers."""
    return Response(msgspec.json.encode(payload), media_type="application/json")


def bytes_reply(call: Call, content: bytes) -> ASGIApp:
    """A file's content as ``application/octet-stream``."""
    return Response(content, headers=call.headers, media_type="application/octet-stream")
