"""The head of a response and the beginning of its body in one write."""

from __future__ import annotations

import asyncio
from typing import Any

_LENGTH = b"\r\ncontent-length: "


class JoinedWrites:
    """A transport that keeps a response's head until the body begins. A head that does not tell the body's length is
    kept until the event loop's next turn at most: it may be that of a stream, which says nothing for a long time.

    uvicorn writes the two apart. Each write is a system call and wakes the client, and both take longer than most of
    what the gateway does for a request. All but :meth:`write`, :meth:`flush` and :meth:`close` is the transport's own.
    """

    __slots__ = ("_call_soon", "_head", "_transport", "_write")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._write = transport.write
        self._call_soon = loop.call_soon
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write ``data``; what begins like a head waits for what follows it."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            if _LENGTH not in data:
                self._call_soon(self.flush)
            return
        self._write(data)

    def close(self) -> None:
        """Write what waits, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Write what waits: the response is over, and has no body."""
        if self._head:
            head, self._head = self._head, b""
            self._write(head)
