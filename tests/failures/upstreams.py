"""A model provider on the far side of a gate that lets through, refuses, hangs or talks nonsense; and DNS likewise."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal
from unittest import mock

import httpx
import msgspec

Mode = Literal["pass", "refuse", "hang", "nonsense"]
HOST = "model.test"
NONSENSE = b"\x00\xffSSH-2.0-nonsense\r\n\r\n" * 3
ALONE, PAIR = "alone", "pair"
_REPLY = msgspec.json.encode(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"


class Gate:
    """A port before a provider. ``mode`` holds for new connections; ``requests`` is how many reached the provider."""

    def __init__(self) -> None:
        self.mode: Mode = "pass"
        self.port = 0
        self.requests = 0
        self.far = 0
        self._released = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Let go of all that hangs, and end every connection."""
        self._released.set()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the gate."""
        self._begins(writer)
        try:
            if self.mode == "hang":
                await self._released.wait()
            elif self.mode == "nonsense":
                await reader.read(1)
                writer.write(NONSENSE)
                await writer.drain()
            elif self.mode == "pass":
                await self._passed(reader, writer)
        finally:
            writer.transport.abort()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.far)
        self._writers.add(far_writer)
        there = asyncio.create_task(_copied(reader, far_writer))
        try:
            await _copied(far_reader, writer)
        finally:
            there.cancel()
            far_writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the provider itself: one request, one answer."""
        self._begins(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            writer.write(_HEAD % len(_REPLY) + _REPLY)
            await writer.drain()
            writer.close()

    def _begins(self, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def gated(context: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    """A provider that speaks TLS with ``context``, or plain HTTP, and a gate before it."""
    gate = Gate()
    far = await asyncio.start_server(gate.answer, "127.0.0.1", 0, ssl=context)
    near = await asyncio.start_server(gate.serve, "127.0.0.1", 0)
    gate.far, gate.port = far.sockets[0].getsockname()[1], near.sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        for server in (near, far):
            server.close()
        await gate.close()


class Names:
    """What DNS says of :data:`HOST`: its address, an error, nothing for a while, or an address where nobody is."""

    def __init__(self) -> None:
        self.mode: Mode = "pass"
        self.asked = 0
        self._released = threading.Event()
        self._own = socket.getaddrinfo

    def release(self) -> None:
        """Let go of all that hangs."""
        self._released.set()

    def look_up(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        """In the place of :func:`socket.getaddrinfo`."""
        if host != HOST:
            return self._own(host, port, *args, **options)
        self.asked += 1
        if self.mode == "refuse":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if self.mode == "hang":
            self._released.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        address = "127.0.0.1" if self.mode == "pass" else "127.86.75.30"
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port or 0))]


@contextmanager
def names() -> Iterator[Names]:
    """DNS that does as it is told, for one name."""
    made = Names()
    with mock.patch("socket.getaddrinfo", made.look_up):
        try:
            yield made
        finally:
            made.release()


def config(base_url: str, mode: Mode = "pass", **upstream: Any) -> dict[str, Any]:
    """The provider alone, and with a healthy one behind it; nothing is tried twice at the same place.

    The limits of time are short only where it hangs: what is well, or says no, is never late on a busy machine.
    """
    connecting, first_event = (0.4, 0.6) if mode == "hang" else (30, 30)
    return {
        "openai": {
            "upstreams": {"up": {"base_url": base_url, "models": ["m"], "connect_timeout": connecting, **upstream}}
        },
        "router": {"aliases": {ALONE: ["up/m"], PAIR: ["up/m", "answers/m"]}},
        "timeouts": {"first_event": first_event},
    }


async def ask(http: httpx.AsyncClient, model: str = ALONE) -> httpx.Response:
    """Call a model."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return await http.post("/v1/chat/completions", json=body)


async def saved(http: httpx.AsyncClient) -> None:
    """With a fallback the call is answered, by it."""
    answer = await ask(http, PAIR)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gatewaykit-target"] == "answers/m"


async def well(http: httpx.AsyncClient) -> None:
    """The provider is used again without anybody's help."""
    async with asyncio.timeout(60):
        while (await ask(http)).status_code != 200:
            await asyncio.sleep(0.02)
