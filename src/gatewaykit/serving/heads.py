"""Bounds on request heads, which uvicorn and the parser below it do not have themselves."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import msgspec

from gatewaykit.serving.cycle import EXTENSIONS, Cycle
from gatewaykit.serving.joining import JoinedWrites
from gatewaykit.serving.upgrades import UpgradesPassedOver

HEAD_SECONDS = 30.0
"""Seconds that a client may take for the head of a request."""


def _refusal(status: str, code: str, message: str) -> bytes:
    """An answer from below the gateway, where no dialect is known yet: the body is OpenAI's."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = msgspec.json.encode({"error": error})
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


_TOO_LARGE = _refusal(
    "431 Request Header Fields Too Large", "header_too_large", "The head of the request is too large."
)
_TOO_SLOW = _refusal("408 Request Timeout", "request_timeout", "The head of the request did not come in time.")


class LimitedProtocol(UpgradesPassedOver):
    """uvicorn's protocol, with bounds on the request head that it does not have itself (RFC 6585, 5).

    ``max_header_bytes`` counts the target and all names and values of headers. What comes without end and is no body
    (a head, trailers, extensions of chunks) is refused at the latest when one read more than that has come. A head
    that is not complete after :data:`HEAD_SECONDS` is refused too, and a connection on which none begins is closed.
    """

    def __init__(self, *args: Any, max_header_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_header_bytes = max_header_bytes
        self._loose_bytes = 0
        self._read_bytes = 0
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._writes = JoinedWrites(transport, self.loop)
        self.transport = self._writes  # type: ignore[assignment]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._loose_bytes += len(data)
        self._read_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self._max_header_bytes:
            self._refuse(_TOO_LARGE)
        elif self._in_head and self._head_timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        self._loose_bytes = 0
        self._in_head = True
        super().on_message_begin()
        self.scope["extensions"] = EXTENSIONS

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_headers_complete(self) -> None:
        self._loose_bytes = 0
        self._in_head = False
        self._stop_waiting()
        # No head has more bytes than were read since the last one: most need no adding up.
        if self._read_bytes > self._max_header_bytes and self._head_bytes() > self._max_header_bytes:
            self._refuse(_TOO_LARGE)
            raise ValueError("request head too large")
        self._read_bytes = 0
        super().on_headers_complete()
        self.cycle.__class__ = Cycle  # uvicorn has no place for another class, and runs it later

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._loose_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._writes.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            if not getattr(self.cycle, "response_started", False) or self.cycle.response_complete:
                self.transport.write(answer)
            self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()


def limited_protocol(max_header_bytes: int) -> functools.partial[LimitedProtocol]:
    """What uvicorn takes as ``http``: :class:`LimitedProtocol` with this bound."""
    return functools.partial(LimitedProtocol, max_header_bytes=max_header_bytes)
