"""Answers as ASGI applications: a JSON document, an event stream, bytes; each can go wrong by script."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .call import Call
from .faults import Fault
from .limits import Place
from .wire import ClientLeft, Departure

JSON_TYPE = "application/json; charset=utf-8"
DONE = b"data: [DONE]\n\n"
GARBAGE_EVENT = b"data: <<<this is not JSON>>>\n\n"
GARBAGE_BODY = b"<<<this is not JSON>>>"
SLOW_PIECES = 8


class _Ending(enum.Enum):
    """How an answer ends after its pieces: as it should, by closing the connection, or never."""

    REGULAR = enum.auto()
    CUT = enum.auto()
    STALL = enum.auto()


@dataclass(frozen=True)
class _Script:
    """The pieces of one body, and what comes after them."""

    pieces: Sequence[bytes]
    ending: _Ending = _Ending.REGULAR


async def _start(send: Send, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})


@dataclass(frozen=True)
class _Writer:
    """Sends one body at the pace of ``interval`` seconds between its pieces.

    ``before_end`` is called before the last byte of a regular body, and before the connection is cut: a
    client that sees the end must find its place free again.
    """

    call: Call
    send: Send
    departure: Departure
    interval: float
    before_end: Callable[[], None]

    async def play(self, script: _Script) -> None:
        regular = script.ending is _Ending.REGULAR
        for number, piece in enumerate(script.pieces, 1):
            if number > 1 and self.interval:
                await self.departure.pause(self.interval)
            await self._write(piece, last=regular and number == len(script.pieces))
        if script.ending is _Ending.CUT:
            self.before_end()
            await self.call.wire.cut(flush=True)
        elif script.ending is _Ending.STALL:
            await self.departure.forever()

    async def _write(self, data: bytes, *, last: bool) -> None:
        size = self.call.fault.split or len(data)
        for start in range(0, len(data), size):
            final = last and start + size >= len(data)
            if final:
                self.before_end()
            await self.send({"type": "http.response.body", "body": data[start : start + size], "more_body": not final})
            # Lets the server notice a client that left, and send each piece by itself.
            await asyncio.sleep(0)


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
            writer = _Writer(self._call, send, departure, fault.slow, self._call.place.leave)
            await writer.play(_body_script(body, fault))


def _body_script(body: bytes, fault: Fault) -> _Script:
    if fault.stall is not None:
        return _Script([], _Ending.STALL)
    if fault.drop_after is not None:
        return _Script([body[: len(body) // 2]], _Ending.CUT)
    size = max(1, -(-len(body) // SLOW_PIECES)) if fault.slow else len(body)
    return _Script([body[start : start + size] for start in range(0, len(body), size)])


class StreamReply:
    """Server-sent events: one ``data:`` line each, then ``[DONE]``; ``interval`` seconds between them."""

    def __init__(self, call: Call, events: Sequence[Any], interval: float) -> None:
        self._call = call
        self._interval = max(interval, call.fault.slow)
        self._events = [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events]
        if not call.fault.no_done:
            self._events.append(DONE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, stats = self._call, self._call.sandbox.stats
        script = _stream_script(self._events, call.fault)
        live = Place(stats.stream_begins())

        def end() -> None:
            stats.finished_streams += 1 if script.ending is _Ending.REGULAR else 0
            live.leave()
            call.place.leave()

        try:
            async with call.wire.watch() as departure:
                await _start(send, {**call.headers, "content-type": "text/event-stream"})
                writer = _Writer(call, send, departure, self._interval, end)
                await writer.play(script)
        except ClientLeft:
            stats.cancelled_streams += 0 if call.wire.severed else 1
        finally:
            live.leave()


def _stream_script(events: Sequence[bytes], fault: Fault) -> _Script:
    pieces = list(events)
    if fault.garbage is not None and fault.garbage <= len(pieces):
        pieces[fault.garbage - 1] = GARBAGE_EVENT
    if fault.drop_after is not None and fault.drop_after < len(pieces):
        return _Script(pieces[: fault.drop_after], _Ending.CUT)
    if fault.stall is not None and fault.stall < len(pieces):
        return _Script(pieces[: fault.stall], _Ending.STALL)
    if fault.half_line is not None and fault.half_line <= len(pieces):
        half = pieces[fault.half_line - 1]
        return _Script([*pieces[: fault.half_line - 1], half[: len(half) // 2]])
    return _Script(pieces)


def json_response(payload: Any) -> Response:
    """A JSON document outside of the API: no fault and no API headers."""
    return Response(msgspec.json.encode(payload), media_type="application/json")


def bytes_reply(call: Call, content: bytes) -> ASGIApp:
    """A file's content as ``application/octet-stream``."""
    return Response(content, headers=call.headers, media_type="application/octet-stream")
