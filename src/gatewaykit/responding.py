"""The one writer of an ASGI response: never a second start, never a byte after the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gatewaykit.errors import ClientGone

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderList = Iterable[tuple[bytes, bytes]]


class Responder:
    """Wraps ``send``. ``status`` is 0 until the response has started."""

    def __init__(self, send: Send) -> None:
        self._send_message = send
        self.status = 0
        self.ended = False

    @property
    def started(self) -> bool:
        """Whether the status line is out, so that an error can no longer become one."""
        return self.status != 0

    async def start(self, status: int, headers: HeaderList) -> None:
        """Send status and headers."""
        if self.started:
            raise RuntimeError("the response has started already")
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, data: bytes) -> None:
        """Send a part of the body; more will follow."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        if not self.ended:
            self.ended = True
            await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._send_message(message)
        except OSError as error:
            # Servers that follow ASGI 2.4 raise when the client has left.
            raise ClientGone from error
