"""The data plane's client: a request to a provider, and its answer as it comes."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from functools import cache
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from msgspec import Struct

from gatewaykit.answers import read_json, refusal
from gatewaykit.errors import ProviderBadAnswer, ProviderError
from gatewaykit.sse import MAX_FRAME_BYTES, FrameSplitter

from .connection import Answer
from .decoding import Unpacking
from .pool import Origin, Pool
from .translation import translated_errors

T = TypeVar("T")
MAX_ANSWER_BYTES = 64 * 1024 * 1024
USER_AGENT = "gatewaykit"
PROPAGATED: ContextVar[Mapping[str, str] | None] = ContextVar("gatewaykit_propagated", default=None)
"""Headers that every request of the data plane gets which the running task sends: the place in a trace, say."""
_PORTS = {"http": 80, "https": 443}
_IN_PATHS = "/?&=%:+,;@!$'()*~-._[]"


class HttpAnswer(Struct, frozen=True):
    """A whole answer. Header names are lower case; of repeated headers the last one counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def raise_for_status(self) -> None:
        """Raise what a status other than 200 means, see :func:`gatewaykit.answers.refusal`."""
        if self.status != 200:
            raise refusal(self.status, self.headers)


class HttpStream:
    """An answer whose body is still coming. Header names are lower case; of repeated headers the last one counts."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self._piece = answer.piece
        encoding = answer.headers.get("content-encoding")
        if encoding is not None and (encoding := encoding.strip().lower()) not in ("identity", ""):
            self._piece = Unpacking(answer.piece, encoding).piece

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case; empty if the server names none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

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
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise ProviderBadAnswer(detail=f"the answer has {declared} bytes")
        pieces, size = [], 0
        while piece := await self._piece():
            size += len(piece)
            if size > limit:
                raise ProviderBadAnswer(detail=f"the answer has more than {limit} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Blocks of whole server-sent events, as many as arrived together, with LF line ends.

        A last frame without its blank line is given too: the caller sees by its content whether the stream was whole.
        """
        splitter = FrameSplitter()
        while piece := await self._piece():
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
        while piece := await self._piece():
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
        if self._answer.ended:
            return
        with suppress(TimeoutError, ProviderError):
            async with asyncio.timeout(seconds):
                while await self._answer.piece():
                    pass


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
        self._address = _Address.of(self._base_url, ssl_context)
        own = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})}
        own = {**(self._address.fields if self._address else {}), **own}
        self._fields = _fields(own)
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    def stream(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send a request; the body of the answer is read by the caller. Leaving early closes the connection."""
        return _Exchange(self, method, path, body, headers)

    async def request(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Send a request and read the whole answer, whatever its status."""
        async with self.stream(method, path, body=body, headers=headers) as answer:
            return HttpAnswer(answer.status, answer.headers, await answer.read())

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def pool(self) -> Pool:
        """The connections of the running event loop; those of loops that ended are dropped."""
        loop = asyncio.get_running_loop()
        if (pool := self._pools.get(loop)) is not None:
            return pool
        for ended in [known for known in tuple(self._pools) if known.is_closed()]:
            self._pools.pop(ended, None)
        if self._address is None:
            raise ProviderError(detail="the provider's address cannot be used")
        pool = self._pools[loop] = Pool(self._address.origin, self._max_connections, self._connect_timeout)
        return pool

    def head(self, method: str, path: str, size: int, headers: Mapping[str, str] | None) -> bytes:
        """A request's head (RFC 9112, 2 and 3); ``size`` is its body's. Raises :class:`ValueError` where what was
        given would end a line before its time.
        """
        fields = {**self._fields, **_fields(headers)} if headers else self._fields
        if not path.isascii() or " " in path:
            path = quote(path, safe=_IN_PATHS)
        root = self._address.root if self._address else ""
        length = f"Content-Length: {size}\r\n" if size or method not in ("GET", "HEAD") else ""
        head = f"{method} {root}{path} HTTP/1.1\r\n{''.join(fields.values())}{length}\r\n"
        lines = len(fields) + (3 if length else 2)
        if head.count("\n") != lines or head.count("\r") != lines or "\0" in head:
            raise ValueError("a line of the request's head has another line in it")
        return head.encode()


class _Address(Struct, frozen=True):
    """What a base URL says: where to connect, what every path begins with, and headers that follow from it."""

    origin: Origin
    root: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, url: str, context: ssl.SSLContext | None) -> Self | None:
        """``None`` for an address that cannot be asked."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").encode("idna").decode()
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            return None
        if not host:
            return None
        named = f"[{host}]" if ":" in host else host
        fields = {"Host": named if port == _PORTS[parts.scheme] else f"{named}:{port}"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        trusted = (context or _default_context()) if parts.scheme == "https" else None
        return cls(Origin(host, port, trusted), quote(parts.path, safe=_IN_PATHS), fields)


class _Exchange(AbstractAsyncContextManager[HttpStream]):
    """One request and its answer."""

    __slots__ = ("_body", "_client", "_connection", "_headers", "_method", "_path", "_pool")

    def __init__(
        self, client: HttpClient, method: str, path: str, body: bytes, headers: Mapping[str, str] | None
    ) -> None:
        self._client = client
        self._method = method
        self._path = path
        self._body = body
        self._headers = headers

    async def __aenter__(self) -> HttpStream:
        headers = self._headers
        if (further := PROPAGATED.get()) is not None:
            headers = {**(headers or {}), **further}
        with translated_errors():
            head = self._client.head(self._method, self._path, len(self._body), headers)
            self._pool = self._client.pool()
            connection = self._connection = await self._pool.take()
        try:
            return HttpStream(await connection.send(head, self._body))
        except BaseException:
            self._pool.give_back(connection)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.give_back(self._connection)


def _fields(headers: Mapping[str, str]) -> dict[str, str]:
    """Lines of a head by their name in lower case, so that a later one takes an earlier one's place."""
    return {name.lower(): f"{name}: {value}\r\n" for name, value in headers.items()}


@cache
def _default_context() -> ssl.SSLContext:
    """Trust in the authorities of this system."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
