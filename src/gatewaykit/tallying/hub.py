"""The parent's side: it keeps the sums, and asks all workers for news before it tells one of them."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from contextlib import suppress
from typing import cast

import msgspec

from gatewaykit.metrics import Metric
from gatewaykit.metrics.totals import Report, Totals
from gatewaykit.tallying.line import ASK, DONE, READ, REPORT, TOTALS, Broken, Line

PATIENCE = 1.0
"""Seconds for which an answer waits for the reports of all workers; one that is stuck tells its news later."""

logger = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(Report).decode
_encode = msgspec.msgpack.Encoder().encode


class TallyHub:
    """Its owner watches ``selector``, calls what stands in a key's ``data`` with the key, and then :meth:`tick`."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.totals = Totals()
        self._selector = selector
        self._lines: dict[socket.socket, Line] = {}
        self._readers: list[Line] = []
        self._next_readers: list[Line] = []
        self._heard: set[Line] = set()
        self._silent: set[Line] = set()
        self._deadline = 0.0

    def open(self) -> socket.socket:
        """The worker's end of a new connection; the caller closes it when the worker has it."""
        ours, theirs = socket.socketpair()
        self._lines[ours] = Line(ours)
        self._selector.register(ours, selectors.EVENT_READ, self._heed)
        return theirs

    def close_inherited(self) -> None:
        """In a child process: these ends are the parent's."""
        for end in self._lines:
            end.close()

    def count(self, metric: Metric, times: int = 1) -> None:
        """Something happened to the parent itself; 0 times says that it may, for an increase needs a beginning."""
        self.totals.add(Report([metric], [(metric.name, (), [float(times)])]), source=-1)

    @property
    def timeout(self) -> float | None:
        """Seconds until :meth:`tick` is due; ``None`` if it is not."""
        return max(0.0, self._deadline - time.monotonic()) if self._readers else None

    def tick(self) -> None:
        """Answer those who want to read, when everybody has reported or has had the time to."""
        if self._readers and (not self._silent or time.monotonic() >= self._deadline):
            self._answer()

    def _heed(self, key: selectors.SelectorKey) -> None:
        """Whatever a worker sends harms its own connection at most. What it said before it went is read to the end."""
        line = self._lines.get(cast("socket.socket", key.fileobj))
        if line is None:
            return
        try:
            with suppress(Broken):
                line.flush()
            for kind, payload in line.messages():
                self._take(line, kind, payload)
        except Broken:
            self._close(line)
        except Exception as error:
            logger.error("a worker's report cannot be read: %s", type(error).__name__, exc_info=error)
            self._close(line)
        else:
            self._watch(line)

    def _take(self, line: Line, kind: int, payload: bytes) -> None:
        self._heard.add(line)
        if kind == REPORT:
            self.totals.add(_decode(payload), line.end.fileno())
        elif kind == DONE:
            self._silent.discard(line)
        elif kind == READ and self._readers:
            self._next_readers.append(line)
        elif kind == READ:
            self._ask([line])

    def _ask(self, readers: list[Line]) -> None:
        self._readers = readers
        self._deadline = time.monotonic() + PATIENCE
        self._silent = {line for line in self._heard if not line.waiting}
        for line in tuple(self._silent):
            self._send(line, ASK)

    def _answer(self) -> None:
        readers, self._readers = self._readers, []
        payload = _encode(self.totals.report())
        for line in readers:
            self._send(line, TOTALS, payload)
        if self._next_readers:
            readers, self._next_readers = self._next_readers, []
            self._ask(readers)

    def _send(self, line: Line, kind: int, payload: bytes = b"") -> None:
        """Who is gone is found out when there is nothing more to read of it."""
        with suppress(Broken):
            line.send(kind, payload)
        self._watch(line)

    def _watch(self, line: Line) -> None:
        if line.end in self._lines:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if line.waiting else 0)
            self._selector.modify(line.end, events, self._heed)

    def _close(self, line: Line) -> None:
        if line.end not in self._lines:
            return
        self._heard.discard(line)
        self._silent.discard(line)
        self.totals.forget(line.end.fileno())
        self._selector.unregister(line.end)
        del self._lines[line.end]
        line.end.close()
