"""uvicorn's cycle of request and response, with a short way out for an answer in one piece."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gatewaykit.responding import WHOLE

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

EXTENSIONS: dict[str, dict[object, object]] = {WHOLE: {}}
"""What the scope of a request says of the server: it takes :data:`~gatewaykit.responding.WHOLE`."""


class Cycle(RequestResponseCycle):
    """Takes an answer in one message and writes it in one go.

    That no header has a line end in it is seen by counting them all: uvicorn looks into each name and value, which
    takes longer than to write them.
    """

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """As ASGI has it, and :data:`~gatewaykit.responding.WHOLE`."""
        return self._whole(message) if message["type"] == WHOLE else super().send(message)

    async def _whole(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        lines = [STATUS_LINE[message["status"]]]
        lines += [b"%b: %b\r\n" % header for header in (*self.default_headers, *message["headers"])]
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            raise RuntimeError("a header has a line end in it")
        self.response_started, self.waiting_for_100_continue = True, False
        self.transport.write(b"%b\r\n%b" % (head, message["body"]))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
