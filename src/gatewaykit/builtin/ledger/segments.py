"""Files of the outbox: lines with a check sum, only ever appended to, each file of one process that holds its lock.

A line is the CRC-32 of a JSON document in eight hex digits, a blank, and the document. A document has no line feed in
it, so whatever happens to one line, the next can be read.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from zlib import crc32

from gatewaykit.builtin.ledger.writing import write

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

    ``waiting`` are the lines in between, and ``since`` is the unix time from which the oldest may be; ``born`` that at
    which the file was opened. A segment that is ``closed`` gets no more lines; its last one may be torn. One that is
    ``damaged`` has lines that could not be used.
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
        self.born = time.time()
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


def create(folder: Path, prefix: str) -> Segment:
    """A new segment. Raises :class:`OSError`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        path = folder / f"{prefix}-{time.time_ns():016x}-{os.getpid()}-{next(_numbers)}{SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if _lock(path, fd):
            return Segment(path, fd)


def orphans(folder: Path, prefix: str) -> Iterator[Segment]:
    """The segments whose processes are gone, oldest first, locked for this one."""
    for path in sorted(folder.glob(f"{prefix}-*{SUFFIX}")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError:  # its owner has just removed it
            continue
        if _lock(path, fd):
            yield Segment(path, fd, closed=True)


def _lock(path: Path, fd: int) -> bool:
    """Lock the file. If another process has it, or has done with it and removed it: close it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:
            return True
    except OSError:
        pass
    os.close(fd)
    return False


def _count_lines(fd: int) -> int:
    lines = position = 0
    while data := os.pread(fd, _CHUNK, position):
        lines += data.count(b"\n")
        position += len(data)
    return lines
