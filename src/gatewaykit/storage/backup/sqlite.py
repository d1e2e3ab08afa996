"""SQLite: a copy of one moment while others write, what is in it, and how it takes the place of the database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

from gatewaykit.errors import BackupError
from gatewaykit.storage.backup import files
from gatewaykit.storage.backup.manifest import Contents, Kind, file_name
from gatewaykit.storage.engine import Database
from gatewaykit.storage.holding import alone

_PATIENCE = 60.0
_STEPS = 100_000
"""Steps of SQLite's machine between two looks at whether to stop."""

_BESIDE = ("-wal", "-shm")
_VERSIONS = "alembic_version_"


class SQLite:
    """The file of ``database``, which is one of SQLite's."""

    kind: Kind = "sqlite"

    def __init__(self, database: Database, file: Path) -> None:
        self._database = database
        self._file = file

    def copy(self, folder: Path, *, compress: bool, stop: threading.Event) -> Contents:
        """Write a copy into ``folder``, and say what is in it. Raises :class:`~gatewaykit.errors.BackupError`.

        ``VACUUM INTO`` reads all of it in one transaction, which holds up no writer, and writes every page anew: what
        was deleted is not in the copy (https://www.sqlite.org/lang_vacuum.html).
        """
        if not self._file.exists():
            raise BackupError(f"{self._database.address} does not exist")
        plain = folder / file_name("sqlite", compressed=False)
        files.make(plain).close()
        with _translated(self._database.address, stop), _connected(self._file, "rw") as connection:
            connection.set_progress_handler(lambda: stop.is_set(), _STEPS)
            connection.execute("VACUUM INTO ?", (str(plain),))
        found = self.inspect(plain)
        if compress:
            files.compress(plain, folder / file_name("sqlite", compressed=True), stop)
            plain.unlink()
        return found

    def unpack(self, file: Path, target: Path, *, compressed: bool) -> Contents:
        """Bring the file of a backup into the new file ``target``, and say what is in it.

        Raises :class:`~gatewaykit.errors.BackupError`.
        """
        files.unpack(file, target, compressed=compressed)
        return self.inspect(target)

    def inspect(self, copy: Path) -> Contents:
        """Check every page of ``copy``. Raises :class:`~gatewaykit.errors.BackupError` if it is damaged."""
        with _translated(str(copy)), _connected(copy, "ro&immutable=1") as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise BackupError(f"{copy} is damaged: {verdict}")
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
            tables = [name for (name,) in names if not name.startswith("sqlite_")]
            rows = {table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables}  # noqa: S608 - names come from the schema
            revisions = {
                table.removeprefix(_VERSIONS): revision
                for table in tables
                if table.startswith(_VERSIONS)
                for (revision,) in connection.execute(f'SELECT version_num FROM "{table}"')  # noqa: S608
            }
        return Contents(revisions, rows)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be lost."""
        return not self._file.exists()

    def replace(self, copy: Path) -> Path | None:
        """Put ``copy``, on the same disk, in the place of the database. Returns where the old one is now.

        Raises :class:`~gatewaykit.errors.StorageError` while anybody works with it.
        """
        with alone(self._file):
            kept = self._put_aside() if self._file.exists() else None
            for suffix in _BESIDE:
                _beside(self._file, suffix).unlink(missing_ok=True)
            copy.rename(self._file)
            files.force(self._file.parent)
        return kept

    def _put_aside(self) -> Path:
        """Rename the database, with what its log still has: that belongs to it, and must not meet another one."""
        kept = self._free_name(f"{self._file.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        with suppress(sqlite3.Error), _connected(self._file, "rw") as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in _BESIDE:
            with suppress(FileNotFoundError):
                _beside(self._file, suffix).rename(_beside(kept, suffix))
        return self._file.rename(kept)

    def _free_name(self, name: str) -> Path:
        """Beside the database; of two that are put aside within a second the second one must not replace the first."""
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        return next(path for path in map(self._file.with_name, names) if not path.exists())


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


@contextmanager
def _connected(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{file.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)) as connection:
        yield connection


@contextmanager
def _translated(what: str, stop: threading.Event | None = None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if stop is not None and stop.is_set():
            raise files.stopped() from None
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        reason = {
            "SQLITE_FULL": "the disk is full",
            "SQLITE_CORRUPT": "it is damaged",
            "SQLITE_NOTADB": "it is damaged",
        }
        raise BackupError(f"{what} cannot be read or copied: {reason.get(name, name)}") from None
