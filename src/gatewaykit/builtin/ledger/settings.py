"""Where records wait for the database, and how long it keeps them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gatewaykit.settings import Days, Section


class LedgerSettings(Section):
    """The books: one record for each call, and sums by hour and day. Without a database there are none."""

    section = "ledger"
    environment = {"STATE_DIRECTORY": "state_directory"}  # noqa: RUF012 - a class variable of the base

    outbox: Path | None = Field(
        None,
        description="Folder on a local disk where records wait for the database; one for each database. Unset: beside "
        "an SQLite file, `<file>-outbox`; else in `state_directory`, or `gatewaykit-outbox` where the gateway starts.",
    )
    state_directory: str | None = Field(
        None, description="Folder for what outlives the process, as systemd names it (`StateDirectory=`)."
    )
    keep_records: Days = Field(90, description="Days that the record of a call is kept; 0 for ever.")
    keep_hours: Days = Field(400, description="Days that sums by the hour are kept; 0 for ever.")
    keep_days: Days = Field(0, description="Days that sums by the day are kept, from which budgets count; 0 for ever.")

    def folder(self, file: Path | None) -> Path:
        """The outbox; ``file`` is that of an SQLite database."""
        if self.outbox is not None:
            return self.outbox.absolute()
        if file is not None:
            return file.with_name(f"{file.name}-outbox")
        if self.state_directory:
            return Path(self.state_directory.partition(":")[0]).absolute() / "outbox"
        return Path("gatewaykit-outbox").absolute()
