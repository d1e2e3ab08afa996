"""A folder of backups: each appears and disappears at once, and only one process at a time changes anything."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gatewaykit.errors import BackupError
from gatewaykit.storage.backup.files import force

_FORM = "%Y-%m-%dT%H-%M-%S.%f"
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z")
_PARTIAL = ".partial-"
_TOLERANCE = timedelta(minutes=1)
"""By so much the clocks of two machines with one folder may differ."""

_LOCK = ".lock"


class Busy(BackupError):
    """Another process is making a backup here."""


class BackupFolder:
    """``path`` is where the backups are; it need not exist yet, but the folder in which it is must.

    That may be the mount point of another disk: a backup must not go beside it unnoticed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """All that are there, oldest first. Raises :class:`~gatewaykit.errors.BackupError`."""
        try:
            return sorted(path.name for path in self.path.iterdir() if _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BackupError(f"{self.path} cannot be read: {error.strerror}") from None

    def past(self, now: datetime) -> list[str]:
        """Those that were made by ``now``, oldest first. When the others were, whose clock was ahead, nobody knows.

        Raises :class:`~gatewaykit.errors.BackupError`.
        """
        last = name_of(now + _TOLERANCE)
        return [name for name in self.names() if name <= last]

    def newest(self) -> datetime | None:
        """When the last backup was made; its name says it. Raises :class:`~gatewaykit.errors.BackupError`."""
        names = self.past(datetime.now(UTC))
        return moment(names[-1]) if names else None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For the one who makes or removes backups; makes the folder, and clears away what others left half done.

        Raises :class:`Busy` while another process is at it, :class:`~gatewaykit.errors.BackupError` where nobody can.
        """
        with self._told():
            self.path.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clear()
            yield
        except BlockingIOError:
            raise Busy(f"another process is making a backup in {self.path}") from None
        finally:
            os.close(lock)

    @contextmanager
    def adding(self, created: datetime) -> Iterator[Path]:
        """A folder to fill. At the end of the block it becomes the backup of that moment, or goes if that failed.

        Raises :class:`~gatewaykit.errors.BackupError` for what the file system does not do.
        """
        with self._told():
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.path))
            try:
                yield partial
                for file in partial.iterdir():
                    force(file)
                force(partial)
                partial.rename(self.path / name_of(created))
                force(self.path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is gone at the end, on the disk where there is room for a database; for who is alone here."""
        with self._told(), tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=self.path) as found:
            yield Path(found)

    def prune(self, now: datetime, *, keep: int, keep_days: int) -> list[str]:
        """Remove all but the newest ``keep``, and those older than so many days; 0 means no such bound.

        The newest stays in any case, and those of a moment to come, which count for nothing. Returns the names of those
        removed.
        """
        names = self.past(now)
        oldest = now - timedelta(days=keep_days)
        gone = names[:-keep] if keep else []
        gone += [name for name in names[len(gone) : -1] if keep_days and moment(name) < oldest]
        with self._told():
            for name in gone:
                partial = self.path / f"{_PARTIAL}{name}"
                (self.path / name).rename(partial)
                shutil.rmtree(partial)
        return gone

    def _clear(self) -> None:
        """Those who were killed could not clean up after themselves."""
        for partial in self.path.glob(f"{_PARTIAL}*"):
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            raise BackupError(f"{self.path} takes no backup: {error.strerror or error}") from None


def name_of(created: datetime) -> str:
    """The name of the backup of that moment (UTC)."""
    return f"{created:{_FORM}}Z"


def moment(name: str) -> datetime:
    """The opposite."""
    return datetime.strptime(name, f"{_FORM}Z").replace(tzinfo=UTC)
