"""One connection to an upstream: HTTP/1.1 (RFC 9112) as a client speaks it, one exchange at a time.

The parser is llhttp, by httptools, in its strict mode. What an upstream may send is bounded: its head, and bytes that
bring an answer no further, by ``MAX_HEAD_BYTES``; a body that nobody reads, by ``_READ_AHEAD``, beyond which the
socket is not read either.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from gatewaykit.errors import ProviderBadAnswer, ProviderError, ProviderUnavailable

from .translation import tls_failure

MAX_HEAD_BYTES = 64 * 1024
_READ_AHEAD = 128 * 1024
_BROKEN_OFF = "The model provider broke off its answer."


class Answer:
    """An answer that is coming: ``status`` and ``headers`` once :meth:`Connection.send` is through, then its body.

    Header names are lower case; of repeated headers the last one counts.
    """

    __slots__ = ("_connection", "_held", "_pieces", "_waiter", "ended", "error", "headers", "status")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self.error: ProviderError | None = None
        """Why there will be no more of it."""
        self.ended = False
        """Whether all of it is here, read or not."""
        self.headers: dict[str, str] = {}
        self.status = 0

    async def head(self) -> None:
        """Wait for status and headers. Raises :class:`~gatewaykit.errors.ProviderError`."""
        while not self.status:
            if self.error is not None:
                raise self.error
            await self._news()

    async def piece(self) -> bytes:
        """What has come of the body since the last piece, waiting for it if need be; empty at the end.

        Raises :class:`~gatewaykit.errors.ProviderError` where the body breaks off, after all that came before.
        """
        while not self._pieces:
            if self.ended:
                return b""
            if self.error is not None:
                raise self.error
            await self._news()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        self._connection.read_on()
        return data

    async def _news(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # told by the connection

    def comes(self, data: bytes) -> bool:
        """Take a piece of the body; whether there is more of it now than should be held."""
        self._pieces.append(data)
        self._held += len(data)
        return self._held > _READ_AHEAD

    def breaks(self, error: ProviderError) -> None:
        """There will be no more of it."""
        if not self.ended and self.error is None:
            self.error = error

    def tell(self) -> None:
        """Wake who waits for it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection that is open, until :meth:`close` or until the upstream closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.free_since = 0.0
        """When its last exchange was over, by the loop's clock."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._field_bytes = 0
        self._barren = 0
        self._brought_on = False
        self._kept_alive = False
        self._paused = False

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def may_serve_again(self) -> bool:
        """Whether its answer is over, after all of the request was sent, and the upstream keeps the connection."""
        transport = self._transport
        return (
            self._kept_alive
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    async def send(self, head: bytes, body: bytes) -> Answer:
        """Send a request and wait for the head of its answer. Raises :class:`~gatewaykit.errors.ProviderError`."""
        answer = self._answer = Answer(self)
        self._fields, self._field_bytes, self._barren, self._kept_alive = [], 0, 0, False
        if self._transport is None:
            raise _lost(False)
        self._transport.writelines((head, body) if body else (head,))
        await answer.head()
        return answer

    def release(self) -> None:
        """The exchange is over. What comes before the next is no answer to anything, and ends the connection."""
        self._answer = None
        self.free_since = self.loop.time()

    def close(self) -> None:
        """End it at once."""
        self._kept_alive = False
        if self._transport is not None:
            self._transport.abort()

    def read_on(self) -> None:
        """There is room again for what the upstream sends."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        answer = self._answer
        if answer is None:
            return self.close()
        self._brought_on = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._give_up(type(error).__name__)
        self._barren = 0 if self._brought_on else self._barren + len(data)
        if self._barren > MAX_HEAD_BYTES:
            self._give_up("it does not go on")
        return answer.tell()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop. A body without length or chunks ends with its connection (RFC 9112, 6.3)."""
        self._transport = None
        if (answer := self._answer) is not None:
            if error is None and _ends_with_connection(answer):
                answer.ended = True
            answer.breaks(_lost(answer.status != 0, error))
            answer.tell()

    def _give_up(self, reason: str) -> None:
        if self._answer is not None:
            self._answer.breaks(ProviderBadAnswer(detail=f"this is no HTTP answer: {reason}"))
        self.close()

    # httptools

    def on_message_begin(self) -> None:
        """Called by the parser. A second answer to one request is nobody's."""
        if self._answer is not None and self._answer.ended:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._field_bytes += len(name) + len(value)
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser. Interim answers (RFC 9110, 15.2) are passed over."""
        answer, status = self._answer, self._parser.get_status_code()
        fields, self._fields = self._fields, []
        if self._field_bytes > MAX_HEAD_BYTES:
            self._give_up("its head is too long")
        elif answer is not None and status >= 200 and not answer.ended:
            answer.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in fields}
            answer.status = status
            self._brought_on = True

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        answer = self._answer
        if answer is None or answer.ended:
            return
        self._brought_on = True
        if answer.comes(data) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        answer = self._answer
        if answer is not None and answer.status and not answer.ended:
            answer.ended = True
            self._kept_alive = self._parser.should_keep_alive()


def _ends_with_connection(answer: Answer) -> bool:
    if not answer.status or answer.error is not None:
        return False
    return not answer.headers.keys() & {"content-length", "transfer-encoding"}


def _lost(begun: bool, cause: Exception | None = None) -> ProviderUnavailable:
    """The error of an answer whose connection was lost, before or after it had begun."""
    detail = (cause and tls_failure(cause)) or "the upstream closed the connection"
    error = ProviderUnavailable(_BROKEN_OFF if begun else None, detail=detail)
    error.__cause__ = cause
    return error
