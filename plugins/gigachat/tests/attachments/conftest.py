"""A web server on the loopback interface that plays the part of the public internet."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest

Respond: TypeAlias = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class WebHost:
    """What a path answers with, and what was asked: (path, headers)."""

    port: int = 0
    routes: dict[str, Respond] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def serve(self, path: str, body: bytes = b"", status: str = "200 OK", **headers: str) -> None:
        """Answer ``path`` with these bytes."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]

        async def respond(writer: asyncio.StreamWriter) -> None:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()

        self.routes[path] = respond

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection with one request."""
        self.connections += 1
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            path = first.split(" ")[1]
            self.requests.append((path, {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}))
            await self.routes[path](writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed.set()
        finally:
            writer.close()


StartHost: TypeAlias = Callable[..., Awaitable[WebHost]]


@pytest.fixture
async def start_host() -> AsyncIterator[StartHost]:
    """Starts hosts; stops them at the end."""
    servers: list[asyncio.Server] = []

    async def start(address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> WebHost:
        host = WebHost()
        server = await asyncio.start_server(host.handle, address, port, ssl=tls)
        host.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        return host

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def host(start_host: StartHost) -> WebHost:
    """A host on 127.0.0.1."""
    return await start_host()
