"""``gatewaykit backup create``, ``list``, ``verify`` and ``restore``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatewaykit.builtin.backup.settings import BackupSettings
from gatewaykit.commands import config_option, configured, good, json_option, note, print_json, print_table, visible
from gatewaykit.errors import ConfigError, ConfigFault

if TYPE_CHECKING:
    from gatewaykit.storage.backup import Backup, Backups

_UNITS = ("B", "kB", "MB", "GB", "TB")


@click.group()
def backup() -> None:
    """Make backups of the database, look at them, and put one back."""


@backup.command()
@config_option
@click.option("--prune", is_flag=True, help="Then remove those that backup.keep and backup.keep_days do not keep.")
@json_option
def create(config: Path | None, prune: bool, as_json: bool) -> None:
    """Make a backup, also while gateways serve. It is read again and checked before it counts."""
    backups, settings = _found(config)
    with backups.folder.alone():
        made = backups.create_alone()
        gone = _pruned(backups, settings) if prune else []
    if as_json:
        print_json({**_document(made), "removed": gone})
        return
    good(f"{made.path}  {_size(made)}")
    for name in gone:
        note(f"removed {name}")


@backup.command("list")
@config_option
@json_option
def list_command(config: Path | None, as_json: bool) -> None:
    """List the backups, oldest first."""
    backups, _ = _found(config)
    found = backups.list()
    if as_json:
        print_json([_document(one) for one in found])
        return
    if not found:
        note(f"there is none in {backups.folder.path}")
    print_table([(one.name, _size(one), _age(one), visible(one.manifest.database)) for one in found], padded=3)


@backup.command()
@click.argument("name", default="")
@config_option
@json_option
def verify(name: str, config: Path | None, as_json: bool) -> None:
    """Read the backup NAME, or the newest, to its last byte, and try whether this version would start with it.

    NAME may be the path of a backup elsewhere. Exits with 1 if it is damaged or cannot be used.
    """
    backups, _ = _found(config)
    checked = backups.verify(name)
    if as_json:
        print_json({**_document(checked.backup), "ok": True})
        return
    rows = checked.backup.manifest.contents.rows
    good(f"{checked.backup.name} is whole: {sum(rows.values())} rows in {len(rows)} tables")
    for step in checked.applied:
        if step.before != step.after:
            note(f"{step.label} will be brought from {step.before or 'nothing'} to {step.after}")


@backup.command()
@click.argument("name", default="")
@config_option
@click.option("--force", is_flag=True, help="Also where a database is there already; it is kept aside.")
@json_option
def restore(name: str, config: Path | None, force: bool, as_json: bool) -> None:
    """Put the backup NAME, or the newest, in the place of the database. No gateway may run meanwhile.

    NAME may be the path of a backup elsewhere. What is damaged, or newer than this version, is refused.
    """
    backups, _ = _found(config)
    done = backups.restore(name, force=force)
    if as_json:
        print_json({**_document(done.backup), "kept": done.kept})
        return
    good(f"{done.backup.name} is in place; the next start brings its schema up to date")
    if done.kept:
        note(f"what was there before is kept as {done.kept}")


def _found(config: Path | None) -> tuple[Backups, BackupSettings]:
    gateway = configured(config)
    if gateway.storage is None:
        raise ConfigError([ConfigFault("is not set: there is no database", "database.url")])
    settings = gateway.settings.get(BackupSettings)
    return settings.of(gateway.storage), settings


def _pruned(backups: Backups, settings: BackupSettings) -> list[str]:
    return backups.folder.prune(datetime.now(UTC), keep=settings.keep, keep_days=settings.keep_days)


def _document(found: Backup) -> dict[str, Any]:
    import msgspec

    return {"name": found.name, "path": str(found.path), **msgspec.to_builtins(found.manifest)}


def _size(found: Backup) -> str:
    size, unit = float(found.manifest.size), 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"


def _age(found: Backup) -> str:
    hours = (datetime.now(UTC) - found.manifest.created).total_seconds() / 3600
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.1f} hours ago"
