"""The outbox: where records are safe before the database has them.

The event loop appends to one file and waits for nothing else. All other work is for the writer's thread: it reads what
is there, says what is done with, begins new files, and takes over those of processes that are gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from gatewaykit.builtin.ledger.segments import (
    Loose,
    Segment,
    create,
    files,
    is_filled,
    is_held,
    look,
    orphans,
    others,
)

logger = logging.getLogger(__name__)
CAPACITY = 10_000
"""Lines that are kept in memory while no file takes them; beyond, the oldest are lost."""

_LARGEST = 4 * 1024 * 1024
_MOST_CLOSED = 16
_MOST_LINES = 500


class Batch(Struct):
    """Lines to be written to the database; without a ``segment`` they are in memory only."""

    lines: list[bytes]
    segment: Segment | None
    size: int = 0


class Outbox:
    """The outbox of this process in ``folder``. ``prefix`` tells the files of one database from those of another, until
    :meth:`identify` knows better.

    Counters: ``refused`` lines that no file took, and ``lost``, those of them for which there was no memory either.
    """

    def __init__(self, folder: Path, prefix: str, *, capacity: int = CAPACITY) -> None:
        self.folder = folder
        self.lost = 0
        self.refused = 0
        self._provisional = prefix
        self._prefixes: tuple[str, ...] = (prefix,)
        self._capacity = capacity
        self._turn = threading.Lock()
        self._active: Segment | None = None
        self._closed: list[Segment] = []
        self._loose: dict[Path, Loose] = {}
        self._found: deque[Path] = deque()
        self._sweep: Iterator[Segment] | None = None
        self._backlog_first = False
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
                    self._active = create(self.folder, self._prefixes[0])
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
                self._active = create(self.folder, self._prefixes[0])
            self._is_closed = False

    def identify(self, identity: str) -> None:
        """Files are the database's that says so of itself, whatever its address, from now on; and so are those that
        were begun before. What waits in either is what :attr:`settled` is about.
        """
        if self._prefixes[0] != identity:
            self._prefixes = (identity, self._provisional)
            if self._active is not None:
                self._renew()
        self._found = deque(filter(is_filled, files(self.folder, self._prefixes)))
        if foreign := others(self.folder, self._prefixes):
            text = "%d files in the outbox %s are of other databases and left alone; those of this one are %s-*.log"
            logger.warning(text, len(foreign), self.folder, identity)

    @property
    def settled(self) -> bool:
        """Whether the database has all that waited in the folder, whoever had it, when it was identified."""
        while self._found and not is_filled(self._found[0]):
            self._found.popleft()
        return not self._found

    def batch(self) -> Batch | None:
        """The next lines; None when there are none. Give it to :meth:`done` or :meth:`put_back`.

        The newest and those of before come by turns: neither holds up the other.
        """
        if self._kept:
            with self._turn:
                lines = [self._kept.popleft() for _ in range(min(_MOST_LINES, len(self._kept)))]
            return Batch(lines, None)
        self._backlog_first = not self._backlog_first
        order = (*self._closed, self._active) if self._backlog_first else (self._active, *self._closed)
        for segment in filter(None, order):
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
        """The database has not taken these lines. Others have their turn before they are tried again."""
        if batch.segment is None:
            with self._turn:
                self._kept.extendleft(reversed(batch.lines))
        elif batch.segment in self._closed:
            self._closed.remove(batch.segment)
            self._closed.append(batch.segment)

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        for segment in filter(None, (self._active, *self._closed)):
            segment.sync()

    def rotate(self) -> None:
        """Begin a new file when the database has some of the present one, or that is large.

        A file goes when all of it is done with: what is in the folder is what waits, and during an outage there are no
        more files than their size asks for.
        """
        active = self._active
        if active is not None and (active.taken or active.size >= _LARGEST):
            self._renew()

    def _renew(self) -> None:
        try:
            fresh = create(self.folder, self._prefixes[0])
        except OSError as error:
            self._problem = error.strerror or str(error)
            return
        self._replace(fresh)

    def adopt(self) -> int:
        """Take over files of processes that are gone, oldest first, as many as there is room for; how many lines wait
        in them. It goes on where it stopped, until it is :attr:`swept`.
        """
        if self._sweep is None:
            self._sweep = orphans(self._visited())
        lines = 0
        while len(self._closed) < _MOST_CLOSED:
            segment = next(self._sweep, None)
            if segment is None:
                self._sweep = None
                break
            self._closed.append(segment)
            lines += segment.waiting
            self._finish()
        return lines

    def _visited(self) -> Iterator[Path]:
        """Whatever becomes of each of these now, it is none that nobody holds."""
        for path in files(self.folder, self._prefixes):
            self._loose.pop(path, None)
            yield path

    @property
    def swept(self) -> bool:
        """Whether :meth:`adopt` has been through the folder, and no file is known that nobody holds."""
        return self._sweep is None and not self._loose

    def measure(self) -> None:
        """Look what waits in files that nobody holds.

        Of the processes that share a folder only the one that holds the oldest file counts them.
        """
        mine = {segment.path for segment in filter(None, (self._active, *self._closed))}
        loose: dict[Path, Loose] = {}
        counts = False
        for path in files(self.folder, self._prefixes):
            with suppress(OSError):
                if not is_held(path):
                    loose[path] = self._loose.get(path) or look(path)
                elif not counts and path not in mine:
                    loose.clear()
                    break
                else:
                    counts = True
        self._loose = loose

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
        self._loose, self._sweep = {}, None
        self._is_closed = True

    def forget(self) -> None:
        """In a child process: these are the parent's files and lines."""
        self._turn = threading.Lock()
        for segment in filter(None, (self._active, *self._closed)):
            segment.leave()
        self._active = None
        self._closed = []
        self._loose, self._sweep = {}, None
        self._found.clear()
        self._kept.clear()
        self._is_closed = False

    def _replace(self, fresh: Segment | None) -> None:
        with self._turn:
            active, self._active = self._active, fresh
            if active is not None:
                active.closed = True
                self._closed.append(active)
        self._finish()
        while len(self._closed) > _MOST_CLOSED:
            self._let_go(self._closed.pop())

    def _let_go(self, segment: Segment) -> None:
        """Close a file with lines that wait: each that is open costs a descriptor, of which connections need some."""
        with suppress(OSError):
            segment.sync()
        self._loose[segment.path] = Loose(segment.waiting, segment.size - segment.taken, segment.since)
        segment.leave()

    def _finish(self) -> None:
        for segment in [segment for segment in self._closed if segment.done]:
            self._closed.remove(segment)
            segment.finish()

    # How it stands

    @property
    def depth(self) -> int:
        """Records that the database does not have yet: of this process, and in files that no process holds."""
        return len(self._kept) + sum(one.waiting for one in self._all())

    @property
    def depth_bytes(self) -> int:
        """The same in bytes of files."""
        return sum(one.size - one.taken for one in self._all())

    @property
    def oldest_age(self) -> float:
        """Seconds for which a record has waited at most; 0 when none waits."""
        times = [one.since for one in self._all() if one.taken < one.size]
        return max(0.0, time.time() - min(times)) if times else 0.0

    def _all(self) -> list[Segment | Loose]:
        active = self._active
        return [*self._closed, *tuple(self._loose.values()), *([] if active is None else [active])]
