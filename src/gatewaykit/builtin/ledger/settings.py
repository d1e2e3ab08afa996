"""Where records wait for the database, and how long it keeps them."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import Field

from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.settings import Days, Section

_LEAST = {"day": 2, "week": 8, "month": 32, "total": math.inf}
"""Days of sums that a budget of each period needs: all of the period, wherever clocks are in it."""


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
    keep_days: Days = Field(
        0,
        description="Days that sums by the day are kept, from which budgets count: no fewer than a period has; 0 for "
        "ever.",
    )

    def folder(self, file: Path | None) -> Path:
        """The outbox; ``file`` is that of an SQLite database."""
        if self.outbox is not None:
            return self.outbox.absolute()
        if file is not None:
            return file.with_name(f"{file.name}-outbox")
        if self.state_directory:
            return Path(self.state_directory.partition(":")[0]).absolute() / "outbox"
        return Path("gatewaykit-outbox").absolute()

    def check_budgets(self, limits: LimitsSettings) -> None:
        """Raise :class:`~gatewaykit.errors.ConfigError` if a budget would forget what was spent in its period."""
        several = (("keys", limits.keys), ("models", limits.models))
        tables = {"all": limits.all, "each_key": limits.each_key, "each_user": limits.each_user}
        tables |= {f"{kind}.{name}": table for kind, named in several for name, table in named.items()}
        needs = {where: _LEAST[table.budget_period] for where, table in tables.items() if table.budget is not None}
        if not needs or not self.keep_days:
            return
        longest = max(needs, key=needs.__getitem__)
        if self.keep_days < (days := needs[longest]):
            least = "must be 0" if days == math.inf else f"must be 0 or at least {days}"
            raise ConfigError([ConfigFault(f"{least}, for the budget of limits.{longest}", "ledger.keep_days")])
