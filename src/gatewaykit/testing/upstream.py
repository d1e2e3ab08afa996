"""An upstream that does as it is told, over a real socket: it answers, stalls, breaks off, and sends any bytes."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec

_NO_LINGER = struct.pack("ii", 1, 0)
_CHUNKED_END = b"0\r\n\r\n"


class Step(enum.Enum):
    """What an upstream can do beside sending bytes."""

    HOLD = "wait until the test releases it, or the client leaves"
    CLOSE = "close the connection"
    RESET = "reset the connection"


Script: TypeAlias = Sequence[bytes | Step]
"""What to do with one request: bytes, sent as they are, and steps."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request as it came; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """An HTTP answer. The body goes out in ``pieces``, each in a write and a chunk of its own."""

    pieces: tuple[bytes, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, document: Any, status: int = 200, **headers: str) -> UpstreamAnswer:
        """One JSON document. Keywords are further headers, with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls((msgspec.json.encode(document),), status, {"content-type": "application/json", **named})

    @classmethod
    def of_events(cls, documents: Iterable[Any], end: bytes = b"data: [DONE]\n\n") -> UpstreamAnswer:
        """Server-sent events, one for each JSON document, and ``end`` behind them."""
        frames = (b"data: " + msgspec.json.encode(document) + b"\n\n" for document in documents)
        return cls((*frames, end) if end else tuple(frames), headers={"content-type": "text/event-stream"})

    @classmethod
    def of_lines(cls, documents: Iterable[Any]) -> UpstreamAnswer:
        """Newline-delimited JSON, one line for each document."""
        lines = (msgspec.json.encode(document) + b"\n" for document in documents)
        return cls(tuple(lines), headers={"content-type": "application/x-ndjson"})

    def script(self) -> list[bytes | Step]:
        """Head, chunks and end: what :class:`Upstream` is to send, ready to be tampered with."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.pieces if piece), _CHUNKED_END]


Handler: TypeAlias = Callable[[UpstreamRequest], Script]


class Upstream:
    """A server on a loopback port that does with each request what ``handler`` says.

    ``requests`` are those that came; ``live`` counts open connections, ``held`` answers that wait. The port is taken at
    once and stays the same, also when :meth:`serving` is entered again in another event loop.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self.requests: list[UpstreamRequest] = []
        self.live = self.held = 0

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return "http://{}:{}".format(*self._listener.getsockname())

    def release(self) -> None:
        """Let all held answers go on, those to come too."""
        self._released.set()

    def close(self) -> None:
        """Give the port back."""
        self._listener.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Upstream]:
        """Answer in the running event loop. An exception of the handler is raised when the block is left."""
        self._released = asyncio.Event()
        server = await asyncio.start_server(self._converse, sock=self._listener.dup())
        try:
            yield self
        finally:
            server.close()
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()
            if self._failure is not None:
                raise self._failure

    async def __aenter__(self) -> Upstream:
        self._serving = self.serving()
        return await self._serving.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._serving.__aexit__(*raised)
        finally:
            self.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.live += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                for step in self._asked(request):
                    if not await self._perform(step, reader, writer):
                        return
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.live -= 1
            writer.close()

    def _asked(self, request: UpstreamRequest) -> Script:
        try:
            return self._handler(request)
        except BaseException as error:  # noqa: BLE001 - raised again by serving()
            self._failure = error
            return [Step.CLOSE]

    async def _perform(self, step: bytes | Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can still be used."""
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            return True
        if step is Step.HOLD:
            return await self._hold(reader)
        if step is Step.RESET:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()
        return False

    async def _hold(self, reader: asyncio.StreamReader) -> bool:
        gone = asyncio.create_task(_left(reader))
        released = asyncio.create_task(self._released.wait())
        self.held += 1
        try:
            await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        finally:
            self.held -= 1
            gone.cancel()
            released.cancel()
            await asyncio.wait({gone, released})  # only then may somebody else read


async def _left(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


async def _read_request(reader: asyncio.StreamReader) -> UpstreamRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in _chunks(reader)])
        else:
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    except asyncio.IncompleteReadError:
        return None
    return UpstreamRequest(method, path, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readuntil(b"\r\n")


@contextmanager
def refusing_address() -> Iterator[str]:
    """``http://127.0.0.1:PORT`` of a port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield "http://{}:{}".format(*taken.getsockname())
