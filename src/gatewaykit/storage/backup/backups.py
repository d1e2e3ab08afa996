"""Making backups of a database, looking at them, and putting one back."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from gatewaykit.errors import BackupError
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage.backup import files, manifest
from gatewaykit.storage.backup.folder import BackupFolder, name_of
from gatewaykit.storage.backup.manifest import Contents, Manifest
from gatewaykit.storage.backup.postgres import Postgres
from gatewaykit.storage.backup.sqlite import SQLite
from gatewaykit.storage.engine import Database
from gatewaykit.storage.migrate import Applied, newer, upgrade
from gatewaykit.storage.store import Storage

logger = logging.getLogger(__name__)
_NEVER = threading.Event()


class Backup(Struct, frozen=True):
    """One backup: its name, where it is, and what it says of itself."""

    name: str
    path: Path
    manifest: Manifest


class Checked(Struct, frozen=True):
    """A backup that was read to its last byte. ``applied`` is what this version did to a copy of it: it starts with it.

    A dump of Postgres is not tried out, and ``applied`` is empty.
    """

    backup: Backup
    applied: tuple[Applied, ...]


class Restored(Struct, frozen=True):
    """What was put back, and where the database is that was there before: a file, or the name of a backup."""

    backup: Backup
    kept: str | None


class Backups:
    """The backups of ``storage``'s database in one folder. Everything here blocks.

    ``tools`` is where the programs of Postgres are. What goes wrong raises :class:`~gatewaykit.errors.BackupError`, and
    what is wrong with the database :class:`~gatewaykit.errors.StorageError`.
    """

    def __init__(self, storage: Storage, folder: Path, *, compress: bool = True, tools: Path | None = None) -> None:
        self.folder = BackupFolder(folder)
        self._storage = storage
        self._compress = compress
        file = storage.file
        self._engine = Postgres(storage.database, tools) if file is None else SQLite(storage.database, file)

    def create(self, stop: threading.Event = _NEVER) -> Backup:
        """Make one, which is checked before it counts. Raises :class:`~gatewaykit.storage.backup.Busy` while another
        process does; setting ``stop`` ends it soon.
        """
        with self.folder.alone():
            return self.create_alone(stop)

    def create_alone(self, stop: threading.Event = _NEVER) -> Backup:
        """The same for who is alone in the folder."""
        created = datetime.now(UTC)
        with self.folder.adding(created) as partial:
            contents = self._engine.copy(partial, compress=self._compress, stop=stop)
            self._described(created, partial, contents).write(partial)
        return self.find(name_of(created))

    def list(self) -> list[Backup]:
        """All whose manifest can be read, oldest first; the log names the others."""
        found = []
        for name in self.folder.names():
            try:
                found.append(self.find(name))
            except BackupError as error:
                logger.warning("%s", error)
        return found

    def find(self, name: str) -> Backup:
        """The one of this name, or the newest for ``""``. A path to a backup elsewhere will do, too."""
        if not name:
            names = self.folder.past(datetime.now(UTC))
            if not names:
                raise BackupError(f"there is no backup in {self.folder.path} that was made by now")
            name = names[-1]
        path = Path(name).absolute() if os.sep in name else self.folder.path / name
        return Backup(path.name, path, manifest.read(path))

    def verify(self, name: str = "") -> Checked:
        """Read all of it, compare it with its manifest, and try on a copy whether this version would start with it."""
        backup = self.find(name)
        self._compare_bytes(backup)
        with self._aside(backup) as folder:
            copy = folder / "copy"
            self._unpacked(backup, copy)
            return Checked(backup, self._tried(copy))

    def restore(self, name: str = "", *, force: bool = False) -> Restored:
        """Put it in the place of the database; with ``force`` also of one that is there, which is kept aside.

        Refused: while a gateway runs, for a damaged backup, and for one that is newer than this version.
        """
        backup = self.find(name)
        if not (self._engine.is_empty or force):
            raise BackupError(
                f"{self._storage.address} is there already; to put {backup.name} in its place, say --force"
            )
        self._compare_bytes(backup)
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=self._room()) as folder:
            copy = Path(folder) / "copy"
            self._unpacked(backup, copy)
            return Restored(backup, self._replaced(copy))

    def _replaced(self, copy: Path) -> str | None:
        if isinstance(self._engine, SQLite):
            aside = self._engine.replace(copy)
            return None if aside is None else str(aside)
        kept = None if self._engine.is_empty else self.create().name
        self._engine.replace(copy)
        return kept

    def _room(self) -> Path | None:
        """Where the copy has to be that takes the database's place."""
        file = self._storage.file
        if file is None:
            return None
        if not file.parent.is_dir():
            raise BackupError(f"the folder {file.parent} does not exist")
        return file.parent

    @contextmanager
    def _aside(self, backup: Backup) -> Iterator[Path]:
        """Where a copy can be tried out: of one elsewhere not beside it, for that folder may be anybody's."""
        if backup.path.parent.resolve() != self.folder.path.resolve():
            with tempfile.TemporaryDirectory(prefix="gatewaykit-verifying-") as found:
                yield Path(found)
            return
        with self.folder.alone(), self.folder.scratch() as folder:
            yield folder

    def _described(self, created: datetime, folder: Path, contents: Contents) -> Manifest:
        kind = self._engine.kind
        size, sha256 = files.digest(folder / manifest.file_name(kind, compressed=self._compress))
        return Manifest(
            created=created,
            version=version("gatewaykit"),
            kind=kind,
            database=self._storage.address,
            compressed=self._compress,
            size=size,
            sha256=sha256,
            contents=contents,
        )

    def _compare_bytes(self, backup: Backup) -> None:
        told = backup.manifest
        try:
            found = files.digest(backup.path / told.file)
        except OSError as error:
            raise BackupError(f"{backup.name} is damaged: {told.file} cannot be read: {error.strerror}") from None
        if found != (told.size, told.sha256):
            raise BackupError(f"{backup.name} is damaged: {told.file} is not what was written")

    def _unpacked(self, backup: Backup, target: Path) -> None:
        told = backup.manifest
        if told.kind != self._engine.kind:
            raise BackupError(f"{backup.name} is of another kind of database ({told.kind}) than the configured one")
        try:
            found = self._engine.unpack(backup.path / told.file, target, compressed=told.compressed)
        except OSError as error:
            raise BackupError(f"{backup.name} cannot be unpacked to {target.parent}: {error.strerror}") from None
        if found != told.contents:
            raise BackupError(f"{backup.name} is damaged: it does not hold what its manifest says")
        for label, revision in newer(self._storage.sources, found.revisions).items():
            raise BackupError(
                f"{backup.name} is newer than this version: the tables of {label!r} are at revision {revision}, which "
                f"it does not know; install gatewaykit {told.version} or newer"
            )

    def _tried(self, copy: Path) -> tuple[Applied, ...]:
        if self._storage.file is None:
            return ()
        return tuple(
            upgrade(Database(DatabaseSettings.model_validate({"url": f"sqlite:///{copy}"})), self._storage.sources)
        )
