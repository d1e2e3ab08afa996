"""The client's connection: noticing that the client left, and cutting the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Receive, Send


class ClientLeft(Exception):
    """The connection is closed; nothing more can be sent."""


class ConnectionCut(ConnectionError):
    """A cut was asked for under a server whose transport cannot be reached."""


class Departure:
    """Watches one connection for the client's leaving, while an answer is under way."""

    def __init__(self, watcher: asyncio.Task[None]) -> None:
        self._watcher = watcher

    async def pause(self, seconds: float) -> None:
        """Wait; raises :class:`ClientLeft` as soon as the client leaves."""
        done, _ = await asyncio.wait({self._watcher}, timeout=seconds)
        if done:
            raise ClientLeft

    async def forever(self) -> None:
        """Stay silent until the client leaves, then raise :class:`ClientLeft`."""
        await asyncio.wait({self._watcher})
        raise ClientLeft


class Wire:
    """One request's ``receive`` and ``send`` as the server gave them, before any middleware.

    ``severed`` says that it was this side that closed the connection.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.severed = False

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Departure]:
        """Notice the client's leaving; the request's body must have been read before."""
        watcher = asyncio.create_task(self._gone())
        try:
            yield Departure(watcher)
        finally:
            watcher.cancel()
            await asyncio.wait({watcher})

    async def cut(self, *, flush: bool) -> None:
        """Close the connection at the socket; ``flush`` sends what is buffered first.

        Always raises :class:`ClientLeft`, once the server knows that the connection is lost: it then
        takes the unfinished answer for that of a client who went away, and logs nothing.
        """
        transport: Any = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None:
            raise ConnectionCut("this server's transport cannot be reached")
        self.severed = True
        if flush:
            transport.close()
        else:
            transport.abort()
        await self._gone()
        raise ClientLeft
