"""Lines on their way out: no one who logs waits for a disk or a pipe."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from gatewaykit.logs.forking import renew_after_fork

_CAPACITY = 10_000
_PATIENCE = 5.0


class Sink(Protocol):
    """Where lines end up."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Write whole lines, unmixed with those of other processes. Blocks; raises :class:`OSError`."""
        ...


class LineWriter:
    """Gives lines to a sink: those that were :meth:`put` in a thread of its own, :meth:`write` on the caller's time.

    At most ``capacity`` lines wait; what comes on top is lost (``full``), and so is what the sink cannot take
    (``failed``): ``dropped`` counts both. A forked process begins with an empty queue and no losses.
    """

    def __init__(self, sink: Sink, *, capacity: int = _CAPACITY) -> None:
        self._sink = sink
        self._capacity = capacity
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin anew, with nothing to write and no thread."""
        self._lines: deque[bytes | threading.Event] = deque()
        self._some = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing = False
        self.dropped = {"full": 0, "failed": 0}

    def put(self, line: bytes) -> None:
        """Take one line, which ends with a newline; never waits."""
        if len(self._lines) >= self._capacity:
            self.dropped["full"] += 1
            return
        self._queue(line)

    def put_all(self, lines: Sequence[bytes]) -> None:
        """Take as many of these lines as there is room for; never waits."""
        room = max(0, self._capacity - len(self._lines))
        self.dropped["full"] += max(0, len(lines) - room)
        self._queue(*lines[:room])

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines now; never raises."""
        try:
            self._sink.write(lines)
            self._failing = False
        except OSError as error:
            self.dropped["failed"] += len(lines)
            if not self._failing:
                self._failing = True
                with suppress(OSError, ValueError):
                    sys.stderr.write(f"gatewaykit: log lines are lost: {error.strerror or type(error).__name__}\n")

    def flush(self, timeout: float = _PATIENCE) -> None:
        """Wait until all lines that were put are written, or lost; for at most ``timeout`` seconds."""
        written = threading.Event()
        self._queue(written)
        if self._thread is None:
            self._drain()
        written.wait(timeout)

    def _queue(self, *items: bytes | threading.Event) -> None:
        self._lines.extend(items)
        if self._thread is None:
            self._begin()
        self._some.set()

    def _begin(self) -> None:
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gatewaykit-logs", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter is on its way out: flush() writes
                    self._thread = None

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            self._drain()

    def _drain(self) -> None:
        batch: list[bytes] = []
        flushed: list[threading.Event] = []
        with suppress(IndexError):
            while True:
                item = self._lines.popleft()
                flushed.append(item) if isinstance(item, threading.Event) else batch.append(item)
        if batch:
            self.write(batch)
        for waiter in flushed:
            waiter.set()
