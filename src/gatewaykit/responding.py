"""The one writer of an ASGI response: never a second start, never a byte after the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gatewaykit.errors import ClientGone

WHOLE = "gatewaykit.response.whole"
"""Type of a message with ``status``, ``headers`` and the whole ``body``, for servers that name it among the extensions
of a request's scope (ASGI, "Extensions")."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderList = Iterable[tuple[bytes, bytes]]


class Responder:
    """Wraps ``send``. ``status`` is 0 until the response has started; ``before_end`` is called ahead of the last
    part. ``takes_whole`` says that the server takes :data:`WHOLE`.
    """

    def __init__(
        self, send: Send, before_end: Callable[[], object] | None = None, *, takes_whole: bool = False
    ) -> None:
        self._send = send
        self._takes_whole = takes_whole
        self._before_end = before_end
        self.status = 0
        self.ended = False

    @property
    def started(self) -> bool:
        """Whether the status line is out, so that an error can no longer become one."""
        return self.status != 0

    async def start(self, status: int, headers: HeaderList) -> None:
        """Send status and headers."""
        if self.status:
            raise RuntimeError("the response has started already")
        self.status = status
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})
        except OSError as error:
            # Servers that follow ASGI 2.4 raise when the client has left.
            raise ClientGone from error

    async def write(self, data: bytes) -> None:
        """Send a part of the body; more will follow."""
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except OSError as error:
            raise ClientGone from error

    async def end(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        if self.ended:
            return
        self._ends()
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": False})
        except OSError as error:
            raise ClientGone from error

    async def whole(self, status: int, headers: HeaderList, body: bytes) -> None:
        """Send all of a response, whose length the headers tell and whose connection may live on."""
        if not self._takes_whole:
            await self.start(status, headers)
            await self.end(body)
            return
        if self.status:
            raise RuntimeError("the response has started already")
        self.status = status
        self._ends()
        await self._send({"type": WHOLE, "status": status, "headers": headers, "body": body})

    def _ends(self) -> None:
        self.ended = True
        # Who made us is not held any longer: without a circle all of the request is freed at once, without a search.
        before_end, self._before_end = self._before_end, None
        if before_end is not None:
            before_end()
