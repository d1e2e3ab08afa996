"""Where backups are kept, how often one is made, and which are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from gatewaykit.settings import Days, Section

if TYPE_CHECKING:
    from gatewaykit.storage import Storage
    from gatewaykit.storage.backup import Backups


class BackupSettings(Section):
    """Backups of the database. Made by `gatewaykit backup create`, and with `every` by the gateway itself."""

    section = "backup"
    environment = {"STATE_DIRECTORY": "state_directory"}  # noqa: RUF012 - a class variable of the base

    directory: Path | None = Field(
        None,
        description="Folder for backups, one for each database, best on another disk. It is made if the folder above "
        "it exists. Unset: beside an SQLite file, `<file>-backups`; else in `state_directory`, or "
        "`gatewaykit-backups` where the gateway starts.",
    )
    state_directory: str | None = Field(
        None, description="Folder for what outlives the process, as systemd names it (`StateDirectory=`)."
    )
    every: float = Field(0, ge=0, description="Hours after which the gateway makes the next one; 0 for never.")
    keep: int = Field(
        14, ge=0, description="How many are kept when the gateway or `create --prune` made another; 0 for all."
    )
    keep_days: Days = Field(0, description="Days that they are kept; 0 for ever. The newest is always kept.")
    compress: bool = Field(True, description="Compress them.")
    postgres_tools: Path | None = Field(
        None, description="Folder of `pg_dump` and `pg_restore`; unset, they are looked for on the path."
    )

    def folder(self, file: Path | None) -> Path:
        """Where backups are; ``file`` is that of an SQLite database."""
        if self.directory is not None:
            return self.directory.absolute()
        if file is not None:
            return file.with_name(f"{file.name}-backups")
        if self.state_directory:
            return Path(self.state_directory.partition(":")[0]).absolute() / "backups"
        return Path("gatewaykit-backups").absolute()

    def of(self, storage: Storage) -> Backups:
        """The backups of this database."""
        from gatewaykit.storage.backup import Backups

        folder = self.folder(storage.file)
        return Backups(storage, folder, compress=self.compress, tools=self.postgres_tools)
