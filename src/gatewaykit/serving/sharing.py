"""Connections in equal shares: several workers accept on one socket, and who has more lets the others go first.

Left to itself, a burst of connections goes to whichever worker wakes first, and the others have nothing to do.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import socket
import ssl
from collections.abc import Callable
from typing import Any

PATIENCE = 0.002
"""Seconds that a worker leaves a connection to those that have fewer; after them it takes one, whatever they do."""

EXHAUSTED_SECONDS = 1.0
"""For so long nothing is accepted when the machine or the process has no descriptor or memory for it."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_ABSENT = 2**32 - 1
_BYTES = 4
logger = logging.getLogger(__name__)


class Shares:
    """How many connections each of ``workers`` has, in memory that they share when they are forked after this.

    Each writes its own number only, so there is nothing to lock. Who has not told any is not waited for.
    """

    def __init__(self, workers: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, _BYTES * workers)).cast("I")
        for worker in range(workers):
            self.leave(worker)

    def tell(self, worker: int, connections: int) -> None:
        """This worker has so many now."""
        self._numbers[worker] = connections

    def leave(self, worker: int) -> None:
        """This worker takes none, or not yet."""
        self._numbers[worker] = _ABSENT

    def allow(self, connections: int) -> bool:
        """Whether one who has so many may take another before the others do. An eighth more than theirs is fair."""
        fewest = min(self._numbers)
        return connections <= fewest + fewest // 8


class _Connections(set[Any]):
    """What uvicorn keeps of open connections; whoever comes or goes is told of."""

    def __init__(self, came: Callable[[], None], went: Callable[[], None]) -> None:
        super().__init__()
        self._came = came
        self._went = went

    def add(self, connection: Any) -> None:
        super().add(connection)
        self._came()

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        self._went()


class FairAcceptor:
    """Accepts for one of several workers, in the running event loop. To uvicorn it is one of its servers.

    ``create_protocol`` makes the protocol of a connection, which enters itself into :attr:`connections` when it begins
    and leaves when it ends.
    """

    def __init__(
        self,
        listener: socket.socket,
        shares: Shares,
        worker: int,
        create_protocol: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.connections: set[Any] = _Connections(self._begun, self._ended)
        self._listener = listener
        self._shares = shares
        self._worker = worker
        self._create_protocol = create_protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._arriving = 0
        self._arrivals: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Accept from now on."""
        self._listener.setblocking(False)
        self._tell()
        self._loop.add_reader(self._listener, self._ready)

    def close(self) -> None:
        """Accept no more. The listener stays open."""
        if not self._closed:
            self._closed = True
            self._shares.leave(self._worker)
            self._stop()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    @property
    def _number(self) -> int:
        return len(self.connections) + self._arriving

    def _tell(self) -> None:
        if not self._closed:
            self._shares.tell(self._worker, self._number)

    def _ready(self) -> None:
        """One connection a turn: those that are there already are served in between."""
        if self._shares.allow(self._number):
            self._accept()
        else:
            self._rest(PATIENCE)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _EXHAUSTED:
                logger.error("no connection can be accepted: %s", error.strerror)
                self._rest(EXHAUSTED_SECONDS)
            return
        self._arriving += 1
        self._tell()
        arrival = self._loop.create_task(self._welcome(accepted))
        self._arrivals.add(arrival)
        arrival.add_done_callback(self._arrivals.discard)

    async def _welcome(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._create_protocol, accepted, ssl=self._tls)
        except OSError:  # the client is gone, or does not speak TLS
            self._arriving -= 1
            self._tell()

    def _begun(self) -> None:
        self._arriving -= 1

    def _ended(self) -> None:
        self._tell()
        if self._pause is not None and self._shares.allow(self._number):
            self._resume()

    def _rest(self, seconds: float) -> None:
        self._stop()
        self._pause = self._loop.call_later(seconds, self._patience_ended)

    def _patience_ended(self) -> None:
        self._resume()
        self._accept()

    def _resume(self) -> None:
        self._stop()
        self._loop.add_reader(self._listener, self._ready)

    def _stop(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._loop.remove_reader(self._listener)
