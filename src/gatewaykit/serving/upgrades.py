"""Requests whose client would rather speak another protocol: answered in this one, as a server may (RFC 9110, 7.8).

The parser stops behind the head of such a request and takes that for the whole of it: the body would be lost, and all
that follows on the connection. Java's HTTP client asks for HTTP/2 so in its first request, whatever its method.
"""

from __future__ import annotations

import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING = (b"content-length", b"transfer-encoding")


class UpgradesPassedOver(HttpToolsProtocol):
    """uvicorn's protocol, which goes on behind such a head: with a parser that is told how long the body is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stopped_at: int | None = None
        self._framing = b""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        while self._stopped_at is not None:
            data, self._stopped_at = data[self._stopped_at :], None
            framing, self._framing = self._framing, b""
            self.parser = _told(self, framing)
            if data:
                super().data_received(data)

    def _unsupported_upgrade_warning(self) -> None:
        """Called where the parser's exception is handled, which has the number of bytes that it has read."""
        self._stopped_at = int(str(sys.exc_info()[1]))

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            framing = [header for header in self.headers if header[0] in _FRAMING and header[1].strip(b"0")]
            self._framing = b"".join(b"%b: %b\r\n" % header for header in framing)
            if framing:
                return
        super().on_message_complete()


def _told(protocol: HttpToolsProtocol, framing: bytes) -> httptools.HttpRequestParser:
    """A parser in the middle of a request: behind a head with these lines, of which ``protocol`` does not hear."""
    listener = _Listener(protocol)
    parser = httptools.HttpRequestParser(listener)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
    if framing:
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
    listener.listens = True
    return parser


class _Listener:
    """Passes on what a parser tells, from when it ``listens``."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self.listens = False
        self._protocol = protocol
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if self.listens:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.listens:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.listens:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.listens:
            self._protocol.on_headers_complete()
