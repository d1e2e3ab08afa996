"""The outbox: where records are safe before the database has them.

The event loop appends to one file and waits for nothing else. All other work is for the writer's thread: it reads what
is there, says what is done with, begins new files, and takes over those of processes that are gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from pathlib import Path

from msgspec import Struct

from gatewaykit.builtin.ledger.segments import Segment, create, orphans

logger = logging.getLogger(__name__)
CAPACITY = 10_000
"""Lines that are kept in memory while no file takes them; beyond, the oldest are lost."""

_LARGEST = 4 * 1024 * 1024
_OLDEST = 60.0
_MOST_LINES = 500


class Batch(Struct):
    """Lines to be written to the database; without a ``segment`` they are in memory only."""

    lines: list[bytes]
    segment: Segment | None
    size: int = 0


class Outbox:
    """The outbox of this process in ``folder``. ``prefix`` tells the files of one database from those of another.

    Counters: ``refused`` lines that no file took, and ``lost``, those of them for which there was no memory either.
    """

    def __init__(self, folder: Path, prefix: str, *, capacity: int = CAPACITY) -> None:
        self.folder = folder
        self.lost = 0
        self.refused = 0
        self._prefix = prefix
        self._capacity = capacity
        self._turn = threading.Lock()
        self._active: Segment | None = None
        self._closed: list[Segment] = []
        self._kept: deque[bytes] = deque()
        self._problem = ""
        self._is_closed = False
        self._failing = False
        self._told = 0

    def append(self, line: bytes) -> None:
        """Make one line safe: when this returns, the end of the process cannot lose it."""
        with self._turn:
            try:
                if self._active is None:
                    self._active = create(self.folder, self._prefix)
                self._active.append(line)
                self._problem = ""
            except OSError as error:
                self._keep(line, error)
            if self._is_closed:
                self._leave()

    def _leave(self) -> None:
        """Nobody is left to read it here."""
        active, self._active = self._active, None
        if active is not None:
            active.leave()

    def _keep(self, line: bytes, error: OSError) -> None:
        self.refused += 1
        self._problem = error.strerror or str(error)
        if len(self._kept) >= self._capacity:
            self._kept.popleft()
            self.lost += 1
        self._kept.append(line.rstrip(b"\n"))

    # For the writer's thread

    def open(self) -> None:
        """Begin a file, so that the first call need not. Raises :class:`OSError` when the folder takes none."""
        with self._turn:
            if self._active is None:
                self._active = create(self.folder, self._prefix)
            self._is_closed = False

    def batch(self) -> Batch | None:
        """The next lines; None when there are none. Give it to :meth:`done` or :meth:`put_back`."""
        if self._kept:
            with self._turn:
                lines = [self._kept.popleft() for _ in range(min(_MOST_LINES, len(self._kept)))]
            return Batch(lines, None)
        for segment in filter(None, (self._active, *self._closed)):
            if data := segment.read():
                return Batch([line for line in data.split(b"\n") if line], segment, len(data))
        return None

    def done(self, batch: Batch) -> None:
        """The database has these lines."""
        segment = batch.segment
        if segment is None:
            return
        with self._turn:
            segment.taken += batch.size
            segment.waiting = max(0, segment.waiting - len(batch.lines))
            segment.since = time.time()
        self._finish()

    def put_back(self, batch: Batch) -> None:
        """The database has not taken these lines."""
        if batch.segment is None:
            with self._turn:
                self._kept.extendleft(reversed(batch.lines))

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        for segment in filter(None, (self._active, *self._closed)):
            segment.sync()

    def rotate(self) -> None:
        """Begin a new file when the present one is large or old; it is removed when all of it is done with."""
        active = self._active
        if active is None or not active.size:
            return
        if active.size >= _LARGEST or time.time() - active.born >= _OLDEST:
            try:
                fresh = create(self.folder, self._prefix)
            except OSError as error:
                self._problem = error.strerror or str(error)
                return
            self._replace(fresh)

    def adopt(self) -> int:
        """Take over the files of processes that are gone; how many lines wait in them."""
        found = list(orphans(self.folder, self._prefix))
        self._closed.extend(found)
        self._finish()
        return sum(segment.waiting for segment in found)

    def report(self) -> None:
        """Say once when the files begin to fail, and once when they are well again, and what that has cost."""
        problem, lost = self._problem, self.lost - self._told
        if problem and not self._failing:
            text = "the outbox %s takes no records (%s): they wait in memory, %d at most"
            logger.error(text, self.folder, problem, self._capacity)
        if not problem and self._failing:
            logger.warning("the outbox %s takes records again; %d were lost", self.folder, lost)
            self._told = self.lost
        self._failing = bool(problem)

    def close(self) -> None:
        """Leave the files: what is in them, and what may still come, is for whoever opens an outbox next."""
        with self._turn:
            kept = [self._kept.popleft() for _ in range(len(self._kept))]
        for line in kept:
            self.append(line + b"\n")
        self._replace(None)
        if lost := len(self._kept):
            self.lost += lost
            self._kept.clear()
            logger.error("%d records of calls are lost: the outbox %s takes none", lost, self.folder)
        for segment in self._closed:
            segment.leave()
        self._closed.clear()
        self._is_closed = True

    def forget(self) -> None:
        """In a child process: these are the parent's files and lines."""
        self._turn = threading.Lock()
        for segment in filter(None, (self._active, *self._closed)):
            segment.leave()
        self._active = None
        self._closed = []
        self._kept.clear()
        self._is_closed = False

    def _replace(self, fresh: Segment | None) -> None:
        with self._turn:
            active, self._active = self._active, fresh
            if active is not None:
                active.closed = True
                self._closed.append(active)
        self._finish()

    def _finish(self) -> None:
        for segment in [segment for segment in self._closed if segment.done]:
            self._closed.remove(segment)
            segment.finish()

    # How it stands

    @property
    def depth(self) -> int:
        """Records that the database does not have yet."""
        segments = filter(None, (self._active, *self._closed))
        return len(self._kept) + sum(segment.waiting for segment in segments)

    @property
    def depth_bytes(self) -> int:
        """The same in bytes of files."""
        return sum(segment.size - segment.taken for segment in filter(None, (self._active, *self._closed)))

    @property
    def oldest_age(self) -> float:
        """Seconds for which a record has waited at most; 0 when none waits."""
        segments = filter(None, (self._active, *self._closed))
        times = [segment.since for segment in segments if segment.taken < segment.size]
        return max(0.0, time.time() - min(times)) if times else 0.0
