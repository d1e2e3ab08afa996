"""``gatewaykit db upgrade`` and ``gatewaykit db check``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import structs

from gatewaykit.cli.main import config_option

if TYPE_CHECKING:
    from gatewaykit.storage import Storage
    from gatewaykit.storage.migrate import SchemaState


@click.group()
def db() -> None:
    """Look after the database's schema."""


@db.command()
@config_option
def upgrade(config: Path | None) -> None:
    """Apply all migrations that are missing: the core's, then those of the plugins.

    `gatewaykit serve` does the same before it opens its port.
    """
    storage = _storage(config)
    click.echo(storage.address)
    for applied in storage.migrate():
        done = "up to date" if applied.before == applied.after else f"was {applied.before or 'empty'}"
        click.echo(f"  {applied.label:12} {applied.after}  {click.style(f'({done})', dim=True)}")


@db.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path | None, as_json: bool) -> None:
    """Compare the database with what this version declares, and change nothing.

    Exits with 0 if nothing is to be done; with 1 if migrations are pending, tables differ, or the database is newer.
    """
    storage = _storage(config)
    states = storage.check()
    if as_json:
        sources = [{**structs.asdict(state), "ok": state.ok} for state in states]
        document = {"database": storage.address, "ok": all(state.ok for state in states), "sources": sources}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        click.echo(storage.address)
        for state in states:
            click.echo("\n".join(_lines(state)))
    sys.exit(0 if all(state.ok for state in states) else 1)


def _storage(config: Path | None) -> Storage:
    from gatewaykit.app import Gateway
    from gatewaykit.errors import ConfigError, ConfigFault
    from gatewaykit.settings import find_config

    storage = Gateway(find_config(config, os.environ)).storage
    if storage is None:
        raise ConfigError([ConfigFault("is not set: there is no database", "database.url")])
    return storage


def _lines(state: SchemaState) -> Iterator[str]:
    mark = click.style("✓", fg="green") if state.ok else click.style("✗", fg="red")
    yield f"{mark} {state.label:12} {state.current or 'empty'}"
    for revision in state.pending:
        yield f"    pending: {revision}"
    for revision in state.unknown:
        yield f"    newer than this version, whose newest is {state.head}: {revision}"
    for difference in state.differences:
        yield f"    differs: {difference}"
