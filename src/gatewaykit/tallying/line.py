"""Messages between worker and parent: a length, a kind, and a payload, over a pair of sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from gatewaykit.errors import GatewayKitError

REPORT, DONE, READ, ASK, TOTALS = range(5)
"""From the worker: a report, that all is said that was asked, a wish to read. From the parent: a question, the sums."""

LARGEST = 32 * 1024 * 1024
"""Bytes of a message; who announces more is not listened to any longer."""

_CHUNK = 256 * 1024
_HEAD = struct.Struct(">IB")


class Broken(GatewayKitError):
    """The other side is gone, or does not keep to the protocol."""


class Line:
    """One end of a connection that never waits: whole messages come out, and what cannot be sent yet is kept."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end = end
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._outgoing)

    def fileno(self) -> int:
        """What to poll. Raises :class:`Broken` when this end is closed."""
        number = self.end.fileno()
        if number < 0:
            raise Broken("this side is closed")
        return number

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send, or keep for :meth:`flush`. Raises :class:`Broken`."""
        self._outgoing += _HEAD.pack(len(payload), kind) + payload
        self.flush()

    def flush(self) -> None:
        """Send as much as the other side takes. Raises :class:`Broken`."""
        try:
            while self._outgoing:
                del self._outgoing[: self.end.send(self._outgoing[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError as error:
            raise Broken("the other side is gone") from error

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """The messages that have come whole. Raises :class:`Broken`."""
        try:
            piece = self.end.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise Broken("the other side is gone") from error
        if not piece:
            raise Broken("the other side is gone")
        self._incoming += piece
        while len(self._incoming) >= _HEAD.size:
            size, kind = _HEAD.unpack_from(self._incoming)
            if size > LARGEST:
                raise Broken("a message is too large")
            if len(self._incoming) < _HEAD.size + size:
                return
            payload = bytes(self._incoming[_HEAD.size : _HEAD.size + size])
            del self._incoming[: _HEAD.size + size]
            yield kind, payload
