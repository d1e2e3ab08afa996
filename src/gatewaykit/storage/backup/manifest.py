"""What a backup says of itself."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from gatewaykit.errors import BackupError
from gatewaykit.storage.backup import files

FORMAT = 1
"""What this version writes, and the newest that it reads."""

NAME = "manifest.json"
Kind: TypeAlias = Literal["sqlite", "postgresql"]
_FILES = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}


class Contents(msgspec.Struct, frozen=True):
    """What is in a copy of a database: the revision of each owner of tables, by label, and the rows of each table."""

    revisions: dict[str, str]
    rows: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``size`` (bytes) and ``sha256`` are those of the file as it lies there, compressed or not.

    ``version`` is gatewaykit's, ``database`` says where the database was, without user and password.
    """

    format: int = FORMAT
    created: datetime
    version: str
    kind: Kind
    database: str
    compressed: bool
    size: int
    sha256: str
    contents: Contents

    @property
    def file(self) -> str:
        """The name of the file beside the manifest: it follows from the rest, so that no manifest can name another."""
        return file_name(self.kind, compressed=self.compressed)

    def write(self, folder: Path) -> None:
        """Put it into ``folder``."""
        with files.make(folder / NAME) as file:
            file.write(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def file_name(kind: Kind, *, compressed: bool) -> str:
    """How the file of a backup is called; a dump of Postgres has its compression inside."""
    return _FILES[kind] + (".gz" if compressed and kind == "sqlite" else "")


def read(folder: Path) -> Manifest:
    """The manifest of the backup in ``folder``. Raises :class:`~gatewaykit.errors.BackupError`."""
    try:
        data = (folder / NAME).read_bytes()
    except OSError as error:
        raise BackupError(f"{folder} is no backup: its manifest cannot be read: {error.strerror}") from None
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeError):
        raise BackupError(f"{folder} is damaged: its manifest says nothing that makes sense") from None
    if found.format > FORMAT:
        raise BackupError(f"{folder} was made by a newer version, {found.version}, in a form that this one cannot read")
    return found
