"""A wire between the gateway and a store that a test can slow down, silence or cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


class Wire:
    """Passes bytes on between clients and the Unix socket ``target``, at a TCP port of its own.

    ``delay``: seconds before each piece of an answer.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._passing = asyncio.Event()
        self._passing.set()
        self._shut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.delay = 0.0
        self.port = 0

    def silence(self) -> None:
        """Connections are accepted and kept, and nothing is passed on."""
        self._passing.clear()

    def shut(self) -> None:
        """Connections are reset, and so are new ones."""
        self._shut = True
        for writer in self._writers:
            writer.transport.abort()

    def hang(self) -> None:
        """Connections are reset, and new ones are accepted with nothing behind them."""
        self.shut()
        self._shut = False
        self.silence()

    def mend(self) -> None:
        """All is well again."""
        self._shut = False
        self._passing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self._writers.add(writer)
        try:
            if not self._shut:
                with suppress(OSError):
                    await self._connected(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        try:
            await _first_of(self._pass(reader, far_writer), self._pass(far_reader, writer, is_answer=True))
        finally:
            far_writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if is_answer and self.delay:
                    await asyncio.sleep(self.delay)
                await self._passing.wait()
                writer.write(piece)
                await writer.drain()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def wire_to(target: str) -> AsyncIterator[Wire]:
    """A wire to this Unix socket; all its connections end with the block."""
    wire = Wire(target)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        wire.shut()
        await server.wait_closed()
