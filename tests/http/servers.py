"""Servers that say whatever bytes a test wants, and count their connections."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with ``script(wire, head, body)``; counts connections and those that are closed."""

    def __init__(self, script):
        self.script = script
        self.heads = []
        self.bodies = []
        self.opened = 0
        self.closed = 0
        self.tasks = set()
        self.url = ""

    async def serve(self, reader, writer):
        self.opened += 1
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                self.bodies.append(await reader.readexactly(length))
                self.heads.append(head.decode("latin-1"))
                if await self.script(Wire(reader, writer), self.heads[-1]) == "close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError, ssl.SSLError):
            self.script_ended = True
        finally:
            self.closed += 1
            self.tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


class Wire:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self):
        await self.reader.read()


@asynccontextmanager
async def serving(script, address="127.0.0.1", **options):
    if isinstance(script, bytes):
        answer = script

        async def script(wire, head):
            await wire.send(answer)

    server = Server(script)
    listener = await asyncio.start_server(server.serve, address, 0, **options)
    named = f"[{address}]" if ":" in address else address
    scheme, host = ("https", "localhost") if options.get("ssl") else ("http", named)
    server.url = f"{scheme}://{host}:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in list(server.tasks):
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)
        await listener.wait_closed()


async def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)
