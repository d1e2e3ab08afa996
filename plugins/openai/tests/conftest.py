"""A scripted upstream on a loopback socket, and calls as the gateway makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import pytest
from pydantic import SecretStr

from gatewaykit.types import Call, ChatRequest, Incoming, Message, Principal, Target
from gatewaykit_openai.provider import OpenAICompatible
from gatewaykit_openai.settings import Upstream

KEY = "sk-canary-5f0c9d2e7b1a48c6"


@dataclass
class Received:
    """One request as the upstream got it; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return msgspec.json.decode(self.body)


Script = Callable[[Received, "Wire"], Awaitable[None]]


class Wire:
    """What a script can do with the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.keep = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def whole(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [] if "content-type" in names else ["Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def begin_stream(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        await self.send(
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )

    async def piece(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Wait until the other side closes the connection."""
        self.keep = False
        await self.reader.read()

    def cut(self) -> None:
        self.keep = False
        self.writer.transport.abort()


@dataclass
class ScriptedUpstream:
    """Does what ``script`` says with each request, and remembers the requests."""

    script: Script | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answers(self, status: int, body: bytes | object, *headers: tuple[str, str]) -> None:
        """Answer every request with this."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)

        async def script(request: Received, wire: Wire) -> None:
            await wire.whole(status, content, *headers)

        self.script = script

    def streams(self, pieces: Sequence[bytes], *, cut: bool = False) -> None:
        """Answer every request with a stream of these network writes; ``cut`` breaks the connection behind them."""

        async def script(request: Received, wire: Wire) -> None:
            await wire.begin_stream()
            for piece in pieces:
                if piece:
                    await wire.piece(piece)
            if cut:
                wire.cut()
            else:
                await wire.end_stream()

        self.script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        wire = Wire(reader, writer)
        try:
            while wire.keep:
                request = await self._read(reader)
                self.received.append(request)
                await self.script(request, wire)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            wire.keep = False
        finally:
            self.closed += 1
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Received(method, path, headers, body)

    async def stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    yield scripted
    await scripted.stop(server)


@pytest.fixture
async def make_provider(upstream):
    """Makes providers for the scripted upstream, and closes them."""
    made = []

    def make(**settings) -> OpenAICompatible:
        settings = {"base_url": upstream.base_url, "api_key": SecretStr(KEY), **settings}
        made.append(OpenAICompatible("openai", Upstream(**settings)))
        return made[-1]

    yield make
    for provider in made:
        await provider.aclose()


@pytest.fixture
def provider(make_provider):
    return make_provider()


@pytest.fixture
def make_call():
    """Makes calls: pass-through ones with the client's bytes, or translated ones."""

    def make(body: bytes = b"", *, raw: bool = True, request: ChatRequest | None = None, stream: bool = True, **fields):
        if request is None:
            document = msgspec.json.decode(body) if body else {"model": "gpt", "stream": stream}
            request = ChatRequest(
                model=document["model"],
                messages=(Message("user", "Hello"),),
                stream=bool(document.get("stream")),
                **fields,
            )
        return Call(
            incoming=Incoming(
                "POST", "/v1/chat/completions", {"authorization": "Bearer gk_client"}, "127.0.0.1", "req-1"
            ),
            principal=Principal("test"),
            dialect="openai_chat",
            request=request,
            body=body or msgspec.json.encode({"model": request.model, "stream": request.stream, "messages": []}),
            raw_dialect="openai_chat" if raw else None,
        )

    return make


@pytest.fixture
def target():
    return Target("openai", "gpt")
