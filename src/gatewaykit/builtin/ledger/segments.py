"""Files of the outbox: lines with a check sum, only ever appended to, each file of one process that holds its lock.

A line is the CRC-32 of a JSON document in eight hex digits, a blank, and the document. A document has no line feed in
it, so whatever happens to one line, the next can be read.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from zlib import crc32

from msgspec import Struct

from gatewaykit.builtin.ledger.writing import write

logger = logging.getLogger(__name__)
SUFFIX = ".log"
DAMAGED = ".damaged"
_CHUNK = 256 * 1024
_HEAD = 9
_numbers = count()


def frame(document: bytes) -> bytes:
    """One line for ``document``."""
    return b"%08x %b\n" % (crc32(document), document)


def unframe(line: bytes) -> bytes | None:
    """The document of a line without its line feed; None if it is not what was written."""
    document = line[_HEAD:]
    return document if line[:_HEAD] == b"%08x " % crc32(document) else None


class Segment:
    """One file, locked. ``size`` are its bytes, ``taken`` those that are done with.

    ``waiting`` are the lines in between, and ``since`` is the unix time from which the oldest may be. A segment that is
    ``closed`` gets no more lines; its last one may be torn. One that is ``damaged`` has lines that could not be used.
    """

    def __init__(self, path: Path, fd: int, *, closed: bool = False) -> None:
        self.path = path
        self.fd = fd
        self.closed = closed
        self.damaged = False
        self.taken = 0
        self.synced = 0
        found = os.fstat(fd)
        self.size = found.st_size
        self.waiting = _count_lines(fd) if self.size else 0
        self.since = found.st_mtime
        self._torn = False

    def append(self, line: bytes) -> None:
        """Write one line. Raises :class:`OSError`; then the file is as if nothing had been written."""
        if self.taken == self.size:
            self.since = time.time()
        data = b"\n" + line if self._torn else line
        written = write(self.fd, data)
        if written != len(data):
            self._cut()
            raise OSError("the disk is full")
        self._torn = False
        self.size += written
        self.waiting += 1

    def _cut(self) -> None:
        """Half a line was written: it goes, or else the next line begins with an end to it."""
        try:
            os.ftruncate(self.fd, self.size)
        except OSError:
            self.size = os.fstat(self.fd).st_size
            self._torn = True

    def read(self) -> bytes:
        """The next lines, of a bounded size; empty when there are none now."""
        wanted = min(_CHUNK, self.size - self.taken)
        data = os.pread(self.fd, wanted, self.taken) if wanted > 0 else b""
        whole = data.rfind(b"\n") + 1
        if whole:
            return data[:whole]
        return data if self.closed or len(data) == _CHUNK else b""

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        if self.synced != self.size:
            size = self.size
            os.fdatasync(self.fd)
            self.synced = size

    @property
    def done(self) -> bool:
        """Whether it can go."""
        return self.closed and self.taken >= self.size

    def finish(self) -> None:
        """All of it is done with: remove the file, or put it aside when it is damaged."""
        with suppress(OSError):
            if self.damaged:
                self.path.rename(self.path.with_suffix(DAMAGED))
            else:
                self.path.unlink()
        self.leave()

    def leave(self) -> None:
        """Close the file and with it the lock: whoever comes next takes it over."""
        os.close(self.fd)


class Loose(Struct):
    """What waits in a file that this process does not hold: lines, bytes, and the unix time since when."""

    waiting: int
    size: int
    since: float
    taken: int = 0


class Unlockable(OSError):
    """The folder takes files, and no locks of them."""


def create(folder: Path, prefix: str) -> Segment:
    """A new segment. Raises :class:`OSError`, and of that :class:`Unlockable`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        path = folder / f"{prefix}-{time.time_ns():016x}-{os.getpid()}-{next(_numbers)}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            segment = _locked(path, fd)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise Unlockable(error.errno, error.strerror) from None
        if segment is not None:
            return segment


def files(folder: Path, prefixes: Sequence[str]) -> list[Path]:
    """The paths of all segments with these prefixes, oldest first."""
    found = (path for prefix in prefixes for path in folder.glob(f"{prefix}-*{SUFFIX}"))
    return sorted(found, key=lambda path: path.name.partition("-")[2])


def others(folder: Path, prefixes: Sequence[str]) -> list[Path]:
    """The paths of segments with other prefixes that have something in them."""
    ours = tuple(f"{prefix}-" for prefix in prefixes)
    return [path for path in folder.glob(f"*-*{SUFFIX}") if not path.name.startswith(ours) and is_filled(path)]


def is_filled(path: Path) -> bool:
    """Whether the file is there, with something in it."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def orphans(paths: Iterable[Path]) -> Iterator[Segment]:
    """Those of these segments whose processes are gone, locked for this one."""
    for path in paths:
        try:
            segment = _locked(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC), closed=True)
        except FileNotFoundError:  # its owner has just removed it
            continue
        except OSError as error:
            logger.warning("%s cannot be taken over: %s", path, error.strerror or error)
            continue
        if segment is not None:
            yield segment


def is_held(path: Path) -> bool:
    """Whether a process holds the file. Raises :class:`OSError`.

    Any number of processes may ask at once; who wants to hold the file meanwhile finds it held.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def look(path: Path) -> Loose:
    """What waits in a file. Of a large one the lines are an estimate by its beginning. Raises :class:`OSError`."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        beginning = file.read(_CHUNK)
    lines = beginning.count(b"\n") * found.st_size // max(1, len(beginning))
    return Loose(lines, found.st_size, found.st_mtime)


def _locked(path: Path, fd: int, *, closed: bool = False) -> Segment | None:
    """The segment in this file, locked; else the file is closed, whether that returns None or raises."""
    try:
        if _lock(path, fd):
            return Segment(path, fd, closed=closed)
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _lock(path: Path, fd: int) -> bool:
    """Lock the file. False if another process has it, or has done with it and removed it; else :class:`OSError`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _count_lines(fd: int) -> int:
    lines = position = 0
    while data := os.pread(fd, _CHUNK, position):
        lines += data.count(b"\n")
        position += len(data)
    return lines
