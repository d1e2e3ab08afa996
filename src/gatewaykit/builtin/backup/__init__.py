"""Backups of the database: by command, and by the clock of the gateway itself. See ``docs/backups.md``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gatewaykit.builtin.backup.settings import BackupSettings
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Readable
from gatewaykit.settings import Section

if TYPE_CHECKING:
    import click


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[backup]``."""
    return [BackupSettings]


@hookimpl
def gateway_readings(gateway: GatewayContext) -> Iterable[Readable]:
    """What makes them, and tells how old the last one is. Raises :class:`~gatewaykit.errors.ConfigError` for a clock
    without a database.
    """
    settings = gateway.settings.get(BackupSettings)
    if gateway.storage is None:
        if settings.every:
            raise ConfigError([ConfigFault("needs database.url", "backup.every")])
        return []
    from gatewaykit.builtin.backup.schedule import Schedule

    return [Schedule(gateway.storage, settings)]


@hookimpl
def gateway_commands(cli: click.Group) -> None:
    """``gatewaykit backup``."""
    from gatewaykit.builtin.backup.commands import backup

    cli.add_command(backup)
