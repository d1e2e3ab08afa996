"""Where lines end up: standard output, or a file that is put aside when it is full or its day is over.

loguru can rotate files too, but not one file that several processes share: then it loses lines.
"""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import select
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gatewaykit.logs.forking import renew_after_fork
from gatewaykit.settings import Rotation

_UNFINISHED = ".part"
logger = logging.getLogger(__name__)


class Stream:
    """An open file descriptor that forked processes share, such as standard output."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = threading.Lock()
        # Pieces of more than PIPE_BUF bytes may be mixed in a pipe (POSIX, write). Record locks belong to a process.
        with tempfile.TemporaryFile() as lock:
            self._lock = os.dup(lock.fileno())
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin as a process of its own."""
        self._turn = threading.Lock()

    def write(self, lines: Sequence[bytes]) -> None:
        """Write all lines in one piece. Blocks; raises :class:`OSError`."""
        with self._turn:
            fcntl.lockf(self._lock, fcntl.LOCK_EX)
            try:
                _write_all(self._descriptor, b"".join(lines))
            finally:
                fcntl.lockf(self._lock, fcntl.LOCK_UN)


class RotatingFile:
    """A file that any number of processes append to, and that each of them may put aside.

    A file put aside has the time in its name (UTC); it is compressed, and removed by age and number as ``rotation``
    says. A file that somebody else moves or removes is made anew; one that cannot be put aside grows. ``mode`` are its
    permissions.
    """

    def __init__(self, path: Path, rotation: Rotation, *, mode: int = 0o640) -> None:
        self.path = path.absolute()
        self._rotation = rotation
        self._mode = mode
        self._turn = threading.Lock()
        self._file: int | None = None
        self._tidying: threading.Thread | None = None
        self._may_move = True
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin as a process of its own: a lock that was inherited keeps nobody out (flock(2))."""
        self._turn = threading.Lock()
        self._tidying = None
        self._close()

    def check(self) -> None:
        """Make the file, if it is not there. Raises :class:`OSError` when it cannot be written."""
        with self._turn, self._current():
            pass

    def tidy(self) -> None:
        """Do what is due although nobody writes: put the file aside when its day is over, remove what is too old.

        Blocks; raises :class:`OSError`.
        """
        with self._turn, self._current() as file:
            if self._is_over(file, 0):
                self._put_aside()
        self._tidy(self._tidying)

    def close(self) -> None:
        """Wait until what was put aside is in order, and close the file; the next line opens it again."""
        with self._turn:
            self._close()
            tidying = self._tidying
        if tidying is not None:
            tidying.join()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def write(self, lines: Sequence[bytes]) -> None:
        """Write all lines in one piece. Blocks; raises :class:`OSError`."""
        data = b"".join(lines)
        with self._turn, self._current() as file:
            aside = self._is_over(file, len(data)) and self._put_aside()
            if not aside:
                self._append(file, data)
        if aside:
            self._tidy_up()
            with self._turn, self._current() as file:
                self._append(file, data)

    @contextmanager
    def _current(self) -> Iterator[int]:
        """The file that has the name now, locked."""
        while True:
            if self._file is None:
                self._file = self._open()
            file = self._file
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if _is_same(file, self.path):
                    yield file
                    return
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            self._close()

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode)

    def _append(self, file: int, data: bytes) -> None:
        """Write all of ``data`` or, on a full disk, nothing: half a line is no line."""
        size = os.fstat(file).st_size
        try:
            _write_all(file, data)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise

    def _is_over(self, file: int, more: int) -> bool:
        """Whether the file is full, or was last written in an earlier period."""
        state = os.fstat(file)
        if state.st_size == 0 or not stat.S_ISREG(state.st_mode):
            return False
        if self._rotation.max_bytes and state.st_size + more > self._rotation.max_bytes:
            return True
        period = self._rotation.hours * 3600
        return bool(period) and state.st_mtime // period != time.time() // period

    def _put_aside(self) -> bool:
        """Whether that could be done. Who may write the file need not be allowed to change its folder."""
        while True:
            when = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
            aside = self.path.with_name(f"{self.path.stem}.{when}{self.path.suffix}")
            if not aside.exists() and not _compressed(aside).exists():
                return self._moved(aside)

    def _moved(self, aside: Path) -> bool:
        try:
            self.path.rename(aside)
        except OSError as error:
            if self._may_move:
                logger.warning("%s cannot be put aside, and grows: %s", self.path, error.strerror)
            self._may_move = False
            return False
        self._may_move = True
        return True

    # What was put aside

    def _tidy_up(self) -> None:
        """Compress and remove, in a thread of its own: both take long. Without one, the next time will do."""
        tidying = threading.Thread(target=self._tidy, args=(self._tidying,), name="gatewaykit-log-files")
        with suppress(RuntimeError):
            tidying.start()
            self._tidying = tidying

    def _tidy(self, before: threading.Thread | None) -> None:
        """Whoever is killed on the way leaves the rest to the next one."""
        if before is not None:
            before.join()
        with suppress(OSError), _alone_in(self.path.parent):
            self._remove_old()
            for aside in self._aside() if self._rotation.compress else ():
                if aside.suffix != ".gz":
                    _compress(aside, self._mode)

    def _aside(self) -> list[Path]:
        """What was put aside, the newest first: the names are in order of time."""
        suffixes = (self.path.suffix, f"{self.path.suffix}.gz")
        known = self.path.parent.glob(f"{_literally(self.path.stem)}.????-??-??T??-??-??.*Z*")
        return sorted(
            (path for path in known if path.name.endswith(suffixes) and path.suffix != _UNFINISHED), reverse=True
        )

    def _remove_old(self) -> None:
        rotation = self._rotation
        oldest = time.time() - rotation.keep_days * 86_400
        for number, aside in enumerate(self._aside()):
            too_many = bool(rotation.keep_files) and number >= rotation.keep_files
            if too_many or (rotation.keep_days and aside.stat().st_mtime < oldest):
                aside.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, also to a descriptor that another program has made non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _compress(path: Path, mode: int) -> None:
    """Replace ``path`` by its compressed form, with the same permissions and time."""
    unfinished = path.with_name(path.name + _UNFINISHED)
    state = path.stat()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with path.open("rb") as source, os.fdopen(descriptor, "wb") as raw, gzip.open(raw, "wb", 6) as target:
        shutil.copyfileobj(source, target, 1024 * 1024)
    os.utime(unfinished, (state.st_atime, state.st_mtime))
    unfinished.replace(_compressed(path))
    path.unlink()


def _compressed(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time tidies up a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _literally(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
