"""The one module that knows the HTTP client libraries.

:class:`HttpClient` is the data plane, for model calls: aiohttp, measured at a seventh of the cost of httpx. The control
plane (token fetch, files, discovery) uses :func:`control_client`, an httpx client with safe defaults. Both translate
the library's exceptions into :mod:`gatewaykit.errors`, so that nothing above this module knows which library it was.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from aiohttp import http_exceptions

from gatewaykit.answers import read_json, refusal
from gatewaykit.errors import ProviderBadAnswer, ProviderError, ProviderTimeout, ProviderUnavailable
from gatewaykit.sse import MAX_FRAME_BYTES, FrameSplitter

T = TypeVar("T")
MAX_ANSWER_BYTES = 64 * 1024 * 1024
USER_AGENT = "gatewaykit"
_READ_BUFFER = 2**17
_LARGE_BODY = 2**20
_BROKEN_OFF = "The model provider broke off its answer."
PROPAGATED: ContextVar[Mapping[str, str] | None] = ContextVar("gatewaykit_propagated", default=None)
"""Headers that every request of the data plane gets which the running task sends: the place in a trace, say."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer. Header names are lower case; of repeated headers the last one counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def raise_for_status(self) -> None:
        """Raise what a status other than 200 means, see :func:`gatewaykit.answers.refusal`."""
        if self.status != 200:
            raise refusal(self.status, self.headers)


class HttpStream:
    """An answer whose body is still coming."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names are lower case; of repeated headers the last one counts."""
        return {name.lower(): value for name, value in self._response.headers.items()}

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if the server names none."""
        given = self._response.headers.get("Content-Type", "")
        return given.partition(";")[0].strip().lower()

    @property
    def is_event_stream(self) -> bool:
        """Whether the server promises server-sent events."""
        return self.content_type == "text/event-stream"

    def raise_for_status(self) -> None:
        """Raise what a status other than 200 means, see :func:`gatewaykit.answers.refusal`."""
        if self.status != 200:
            raise refusal(self.status, self.headers)

    async def read(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body. Raises :class:`~gatewaykit.errors.ProviderBadAnswer` beyond ``limit`` bytes."""
        declared = self._response.content_length
        if declared is not None and declared > limit:
            raise ProviderBadAnswer(detail=f"the answer has {declared} bytes")
        with translated_errors():
            if declared is not None and "Content-Encoding" not in self._response.headers:
                return await self._response.read()
            body = bytearray()
            async for piece in self._response.content.iter_any():
                body += piece
                if len(body) > limit:
                    raise ProviderBadAnswer(detail=f"the answer has more than {limit} bytes")
            return bytes(body)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Blocks of whole server-sent events, as many as arrived together, with LF line ends.

        A last frame without its blank line is given too: the caller sees by its content whether the stream was whole.
        """
        splitter = FrameSplitter()
        with translated_errors():
            async for piece in self._response.content.iter_any():
                if block := splitter.feed(piece):
                    yield block
        if block := splitter.flush():
            yield block

    async def lines(self) -> AsyncIterator[bytes]:
        """The body's lines as they come, empty ones left out: for JSON that is delimited by newlines.

        A last line without its end is given too. Raises :class:`~gatewaykit.errors.ProviderBadAnswer` when one line
        grows beyond the limit of a server-sent event.
        """
        rest = bytearray()
        with translated_errors():
            async for piece in self._response.content.iter_any():
                rest += piece
                if b"\n" in piece:
                    *whole, rest = rest.split(b"\n")
                    for line in whole:
                        if line := line.strip():
                            yield bytes(line)
                if len(rest) > MAX_FRAME_BYTES:
                    raise ProviderBadAnswer(detail="a line of the answer is too long")
        if rest := rest.strip():
            yield bytes(rest)

    async def json_lines(self, kind: type[T]) -> AsyncIterator[T]:
        """The lines of newline-delimited JSON, each as an object of this type, usually a :class:`msgspec.Struct`.

        Raises :class:`~gatewaykit.errors.ProviderBadAnswer` for a line that is not of that type.
        """
        async for line in self.lines():
            yield read_json(line, kind)

    async def finish(self, seconds: float = 0.2) -> None:
        """Wait so long for the end of a body that has said all it had to say.

        Some formats end before their body does. Only after a whole body can the connection serve again; a body that
        does not end in time costs no more than that.
        """
        if self._response.closed:
            return
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(seconds):
                await self._response.content.wait_eof()


class HttpClient:
    """A pool of connections to one upstream, for model calls.

    ``base_url`` is joined with the path of each request by plain concatenation. ``connect_timeout`` is in seconds; the
    time limits of an answer are the gateway's. No cookies are kept, no redirects followed, no proxy variables read.
    Opened lazily, in the running event loop; :meth:`aclose` closes it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        max_connections: int = 0,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = {"User-Agent": USER_AGENT, **(headers or {})}
        self._ssl_context = ssl_context
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout)
        self._max_connections = max_connections
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    def stream(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send a request; the body of the answer is read by the caller. Leaving early closes the connection."""
        return _Exchange(self, method, self._base_url + path, body, headers)

    async def request(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Send a request and read the whole answer, whatever its status."""
        async with self.stream(method, path, body=body, headers=headers) as answer:
            return HttpAnswer(answer.status, answer.headers, await answer.read())

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if session := self._sessions.pop(asyncio.get_running_loop(), None):
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def session(self) -> aiohttp.ClientSession:
        """The session of the running event loop."""
        return self._sessions.get(asyncio.get_running_loop()) or await self._open()

    async def _open(self) -> aiohttp.ClientSession:
        """A session for the running event loop; those of loops that ended without :meth:`aclose` are dropped."""
        for ended in [loop for loop in tuple(self._sessions) if loop.is_closed()]:
            if stale := self._sessions.pop(ended, None):
                await stale.close()
        session = self._sessions[asyncio.get_running_loop()] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, ssl=self._ssl_context or True, keepalive_timeout=60
            ),
            timeout=self._timeout,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            read_bufsize=_READ_BUFFER,
            trust_env=False,
        )
        return session


class _Exchange(AbstractAsyncContextManager[HttpStream]):
    """One request and its answer."""

    __slots__ = ("_body", "_client", "_headers", "_method", "_response", "_url", "_watched")

    def __init__(
        self, client: HttpClient, method: str, url: str, body: bytes, headers: Mapping[str, str] | None
    ) -> None:
        self._client = client
        self._method = method
        self._url = url
        self._body = body
        self._headers = headers

    async def __aenter__(self) -> HttpStream:
        if (further := PROPAGATED.get()) is not None:
            self._headers = {**(self._headers or {}), **further}
        with translated_errors():
            session = await self._client.session()
            self._response = await session.request(
                self._method, self._url, data=_payload(self._body), headers=self._headers, allow_redirects=False
            )
        self._watched = _bodies.begin(self._response)
        return HttpStream(self._response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watched is not None:
            self._watched.body = None
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class _Bodies:
    """Ends a body with an error when its connection is closed.

    aiohttp's parser forgets a body whose framing broke in the middle; whoever reads it would wait for ever.
    """

    def __init__(self) -> None:
        self._connections: WeakKeyDictionary[Any, _Connection] = WeakKeyDictionary()

    def begin(self, response: aiohttp.ClientResponse) -> _Connection | None:
        """The body of ``response`` is going to be read, until its connection's ``body`` is set to None. Returns that
        connection; ``None`` if all of the body came.
        """
        connection = response.connection
        if connection is None or (protocol := connection.protocol) is None:
            return None
        known = self._connections.get(protocol)
        if known is None:
            closed = protocol.closed
            if closed is None:
                _break_off(response.content)
                return None
            known = self._connections[protocol] = _Connection()
            closed.add_done_callback(known.close)
        known.body = response.content
        if known.is_closed:
            _break_off(response.content)
        return known


class _Connection:
    """A connection, and the ``body`` that is read from it now."""

    __slots__ = ("body", "is_closed")

    def __init__(self) -> None:
        self.body: aiohttp.StreamReader | None = None
        self.is_closed = False

    def close(self, done: asyncio.Future[None]) -> None:
        self.is_closed = True
        done.exception()
        if self.body is not None:
            _break_off(self.body)


_bodies = _Bodies()


def _break_off(body: aiohttp.StreamReader) -> None:
    if not body.is_eof() and body.exception() is None:
        body.set_exception(aiohttp.ClientPayloadError("the connection is closed"))


def _payload(body: bytes) -> aiohttp.BytesPayload | io.BytesIO | None:
    """What aiohttp is to send; it writes a large body piece by piece only from a file."""
    if len(body) > _LARGE_BODY:
        return io.BytesIO(body)
    return aiohttp.BytesPayload(body) if body else None


def control_client(
    *,
    base_url: str = "",
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 30.0,
    **options: Any,
) -> httpx.AsyncClient:
    """An httpx client for what is not a model call: no redirects, no proxy variables, one time limit in seconds."""
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"User-Agent": USER_AGENT, **(headers or {})},
        verify=ssl_context if ssl_context is not None else True,
        timeout=httpx.Timeout(timeout),
        trust_env=False,
        follow_redirects=False,
        **options,
    )


class translated_errors:  # noqa: N801 - used like a function
    """Turns what aiohttp and httpx raise inside it into :class:`~gatewaykit.errors.ProviderError` and its kinds.

    The most specific kind wins; the library's text goes into ``detail`` by class name only, for it may name addresses.
    Misuse of a library (``httpx.StreamError``) stays what it is: a defect.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (translated := _translation(error)) is not None:
            raise translated from error


def _translation(error: BaseException) -> ProviderError | None:
    name = type(error).__name__
    match error:
        case TimeoutError() | httpx.TimeoutException():
            return ProviderTimeout(detail=name)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return ProviderError(detail=name)
        case aiohttp.ClientPayloadError(__cause__=http_exceptions.ContentEncodingError()):
            return ProviderBadAnswer(detail="ContentEncodingError")
        case aiohttp.ClientPayloadError():
            return ProviderUnavailable(_BROKEN_OFF, detail=name)
        case aiohttp.ClientConnectionError() | aiohttp.UploadAbortedError() | httpx.TransportError() | OSError():
            return ProviderUnavailable(detail=_tls(error) or name)
        case aiohttp.ClientError() | httpx.HTTPError() | http_exceptions.HttpProcessingError() | ValueError():
            return ProviderBadAnswer(detail=name)
    return None


def _tls(error: BaseException) -> str | None:
    """What to log when the encryption is what failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError | aiohttp.ClientConnectorCertificateError):
            return "TLS: the server's certificate was not accepted"
        if isinstance(cause, ssl.SSLError | aiohttp.ClientSSLError):
            return "TLS: no secure connection"
        cause = cause.__cause__ or cause.__context__
    return None


__all__ = ["HttpAnswer", "HttpClient", "HttpStream", "control_client", "translated_errors"]
