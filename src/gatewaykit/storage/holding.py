"""Who works with an SQLite file, and who may put another in its place: a lock beside it, which the system keeps.

It is a file of its own: whoever closes any descriptor of the database itself drops the locks that SQLite has on it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from gatewaykit.errors import StorageError

SUFFIX = "-lock"


def held(file: Path) -> AbstractContextManager[None]:
    """A share in the file from now until the block is left; any number of processes have one.

    Raises :class:`OSError` where there can be no lock, and :class:`~gatewaykit.errors.StorageError` while somebody
    has the file alone.
    """
    return _kept(_locked(file, fcntl.LOCK_SH, "is being replaced by a backup; try again when that is done"))


def alone(file: Path) -> AbstractContextManager[None]:
    """The same with nobody else; raises :class:`~gatewaykit.errors.StorageError` while anybody works with it."""
    return _kept(_locked(file, fcntl.LOCK_EX, "is in use by a running gateway or another command; stop that first"))


def _locked(file: Path, kind: int, problem: str) -> int:
    lock = os.open(file.with_name(file.name + SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StorageError(f"SQLite {file} {problem}") from None
    return lock


@contextmanager
def _kept(lock: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(lock)
