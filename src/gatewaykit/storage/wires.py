"""Cutting the connections to Postgres, so that threads end that wait for a server which says nothing any more.

The server's own time limits do not help there, and its machine still acknowledges what it is sent. Who waits on a
connection cannot be told otherwise from outside: its socket is shut down, and the driver finds it closed.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, QueuePool, event


class Wires:
    """All connections of an engine that uses psycopg."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections: WeakSet[Any] = WeakSet()
        self._turn = threading.Lock()
        self._over = False
        self._closed: type[Exception] = engine.dialect.loaded_dbapi.Error
        event.listen(engine, "connect", self._made)

    @property
    def busy(self) -> bool:
        """Whether somebody uses one, in whichever thread."""
        pool = self._engine.pool
        return isinstance(pool, QueuePool) and pool.checkedout() > 0

    def cut(self) -> None:
        """Whoever waits on one of them fails at once, and later ones are of no use to anybody."""
        self._over = True
        with self._turn:
            connections = list(self._connections)
        for connection in connections:
            with (
                suppress(OSError, self._closed),
                socket.socket(fileno=os.dup(connection.fileno())) as wire,
            ):
                wire.shutdown(socket.SHUT_RDWR)

    def _made(self, connection: Any, record: object) -> None:
        with self._turn:
            self._connections.add(connection)
        if self._over:
            connection.close()
