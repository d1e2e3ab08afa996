"""The sums, as one process sees them."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from gatewaykit.errors import Unavailable
from gatewaykit.metrics.totals import Report, Totals
from gatewaykit.tallying.line import ASK, DONE, READ, REPORT, TOTALS, Broken, Line

PERIOD = 1.0
"""Seconds between reports; what a killed worker loses at most."""

READ_PATIENCE = 5.0
logger = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(Report).decode
_encode = msgspec.msgpack.Encoder().encode


class SharedTally:
    """What this process counts, or after :meth:`join` what its parent and all workers do.

    A thread asks for reports while at least one event loop has called :meth:`start` and not yet :meth:`stop`.
    """

    def __init__(self) -> None:
        self._sources: list[Callable[[], Report]] = []
        self._totals = Totals()
        self._parent: _Parent | None = None
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def join(self, end: socket.socket) -> None:
        """In a worker: report to the parent, which has the other end."""
        self._parent = _Parent(Line(end), self._reports)

    def contribute(self, report: Callable[[], Report]) -> None:
        """Ask ``report`` for what is new, every second and at every reading."""
        self._sources.append(report)

    async def read(self) -> Totals:
        """The sums of all processes. Raises :class:`~gatewaykit.errors.Unavailable` when the parent does not answer."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Totals:
        report = self._collect() if self._parent is None else self._parent.read()
        totals = Totals()
        totals.add(report)
        return totals

    def start(self) -> None:
        """Begin to ask for reports, unless that is done already. Blocks while a stop is under way."""
        with self._starting:
            self._users += 1
            if self._sources and self._thread is None:
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopping,), name="gatewaykit-tally", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """For the last user: report once more, and end the thread. Blocks."""
        with self._starting:
            self._users -= 1
            if self._users or self._thread is None:
                return
            self._stopping.set()
            if self._parent is not None:
                self._parent.wake()
            self._thread.join(READ_PATIENCE)
            self._thread = None

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                if self._parent is None:
                    stopping.wait(PERIOD)
                    self._collect()
                else:
                    self._parent.serve(stopping)
            except Broken:
                logger.debug("the parent takes no reports any more")
                return
            except Exception as error:
                logger.error("a report failed: %s", type(error).__name__, exc_info=error)
                stopping.wait(PERIOD)

    def _reports(self) -> list[Report]:
        return [source() for source in self._sources]

    def _collect(self) -> Report:
        with self._turn:
            for number, report in enumerate(self._reports()):
                self._totals.add(report, number)
            return self._totals.report()


class _Parent:
    """A worker's side of the connection. One thread serves it; another one may read."""

    def __init__(self, line: Line, reports: Callable[[], list[Report]]) -> None:
        self._line = line
        self._reports = reports
        self._reading = threading.Lock()
        self._wanted = False
        self._answer = Report()
        self._answered = threading.Event()
        self._due = 0.0
        self._bell: socket.socket | None = None

    def read(self) -> Report:
        """The sums. Blocks; raises :class:`~gatewaykit.errors.Unavailable` without an answer."""
        with self._reading:
            self._answered.clear()
            self._wanted = True
            self.wake()
            if not self._answered.wait(READ_PATIENCE):
                raise Unavailable(retry_after=1.0, detail="the parent process does not tell its sums")
            return self._answer

    def wake(self) -> None:
        """Let the serving thread look at what has changed."""
        with suppress(OSError):
            if self._bell is not None:
                self._bell.send(b"w")

    def serve(self, stopping: threading.Event) -> None:
        """Report when it is time, when asked, and before the end. Raises :class:`Broken` when the parent is gone."""
        ear, bell = socket.socketpair()
        with ear, bell:
            bell.setblocking(False)
            self._bell = bell
            try:
                self._serve(ear, stopping)
            finally:
                self._bell = None

    def _serve(self, ear: socket.socket, stopping: threading.Event) -> None:
        while not stopping.is_set():
            asked = self._listen(ear, max(0.0, self._due - time.monotonic()))
            if self._wanted:
                self._wanted = False
                self._line.send(READ)
            if asked or time.monotonic() >= self._due:
                self._report(asked=asked)
        self._report(asked=False)
        deadline = time.monotonic() + PERIOD
        while self._line.waiting and time.monotonic() < deadline:
            self._listen(ear, PERIOD)

    def _listen(self, ear: socket.socket, seconds: float) -> bool:
        """Wait so long for something to happen; whether the parent asks for a report."""
        events = select.poll()
        events.register(ear, select.POLLIN)
        events.register(self._line, select.POLLIN | (select.POLLOUT if self._line.waiting else 0))
        happened = dict(events.poll(seconds * 1000))
        theirs = happened.get(self._line.fileno(), 0)
        if ear.fileno() in happened:
            ear.recv(4096)
        if theirs & select.POLLOUT:
            self._line.flush()
        asked = False
        for kind, payload in self._line.messages() if theirs & ~select.POLLOUT else ():
            asked = asked or kind == ASK
            if kind == TOTALS:
                self._answer = _decode(payload)
                self._answered.set()
        return asked

    def _report(self, *, asked: bool) -> None:
        """What is new; it stays where it is while the last report has not left."""
        self._due = time.monotonic() + PERIOD
        if self._line.waiting:
            return
        for report in self._reports():
            self._line.send(REPORT, _encode(report))
        if asked:
            self._line.send(DONE)
