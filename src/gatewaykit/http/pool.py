"""Connections of one event loop to one origin (RFC 6454): opened when needed, kept while they are used.

Names are looked up by the system and addresses tried as RFC 8305 has it ("Happy Eyeballs"), by aiohappyeyeballs.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohappyeyeballs

from .connection import Connection

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
KEPT_SECONDS = 60.0
"""How long a connection is kept that nobody uses."""
_ADDRESS_SECONDS = 10.0
_NEXT_ADDRESS_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream is; ``context`` says whom to trust there, ``None`` that nothing is encrypted."""

    host: str
    port: int
    context: ssl.SSLContext | None = field(default=None, repr=False)


class Pool:
    """At most ``most`` connections at a time, 0 for any number; ``connect_timeout`` in seconds, the wait for one of
    them included.
    """

    def __init__(self, origin: Origin, most: int, connect_timeout: float) -> None:
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(most) if most else None
        self._connect_timeout = connect_timeout
        self._addresses = _Addresses(origin)
        self._free: list[Connection] = []
        self._used: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Connection:
        """A connection that nobody else uses. Raises :class:`OSError`, :class:`TimeoutError`."""
        connection = self._free_one() if self._turns is None else None
        if connection is None:
            async with asyncio.timeout(self._connect_timeout):
                connection = await self._awaited()
        self._used.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Its exchange is over, or was left: then it is closed."""
        self._used.discard(connection)
        if connection.may_serve_again and not self._closed:
            connection.release()
            self._free.append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEPT_SECONDS, self._close_old)
        else:
            connection.close()
        if self._turns is not None:
            self._turns.release()

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in (*self._free, *self._used):
            connection.close()
        self._free.clear()
        await self._addresses.aclose()

    def _free_one(self) -> Connection | None:
        """The one that was used last: those that are not needed grow old."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return None

    async def _awaited(self) -> Connection:
        if self._turns is None:
            return await self._opened()
        await self._turns.acquire()
        try:
            return self._free_one() or await self._opened()
        except BaseException:
            self._turns.release()
            raise

    async def _opened(self) -> Connection:
        context = self._origin.context
        link = await aiohappyeyeballs.start_connection(
            await self._addresses.find(), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
        )
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop),
                sock=link,
                ssl=context,
                server_hostname=self._origin.host if context is not None else None,
            )
        except BaseException:
            link.close()
            raise
        return connection

    def _close_old(self) -> None:
        """Close what nobody has used for long, and look again if anything is left."""
        limit = self._loop.time() - KEPT_SECONDS
        kept = [connection for connection in self._free if connection.free_since > limit and connection.is_open]
        for connection in set(self._free).difference(kept):
            connection.close()
        self._free = kept
        self._sweep = self._loop.call_later(KEPT_SECONDS, self._close_old) if kept else None


class _Addresses:
    """The addresses of a name, remembered for a while. Those who ask at the same time share one look-up."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._known: Sequence[AddressInfo] = ()
        self._until = 0.0
        self._search: asyncio.Task[Sequence[AddressInfo]] | None = None

    async def find(self) -> Sequence[AddressInfo]:
        loop = asyncio.get_running_loop()
        if not self._known or loop.time() >= self._until:
            if self._search is None or self._search.done():
                self._search = asyncio.create_task(self._look_up(loop), name="look-up")
            self._known = await asyncio.shield(self._search)
            self._until = loop.time() + _ADDRESS_SECONDS
        return self._known

    async def aclose(self) -> None:
        """Stop looking."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait([self._search])

    async def _look_up(self, loop: asyncio.AbstractEventLoop) -> Sequence[AddressInfo]:
        return await loop.getaddrinfo(self._origin.host, self._origin.port, type=socket.SOCK_STREAM)
