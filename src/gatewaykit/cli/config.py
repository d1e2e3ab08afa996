"""``gatewaykit config show``."""

from __future__ import annotations

import os
from pathlib import Path

import click
from msgspec import structs

from gatewaykit.cli.main import config_option, json_option
from gatewaykit.cli.output import note, print_json, print_table


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@config_option
@click.option("--all", "everything", is_flag=True, help="Show defaults too.")
@json_option
def show(config: Path | None, everything: bool, as_json: bool) -> None:
    """Print each setting with its value and where it comes from.

    Secrets are masked.
    """
    from gatewaykit.app import Gateway
    from gatewaykit.settings import describe, find_config

    gateway = Gateway(find_config(config, os.environ))
    rows = [row for row in describe(gateway.settings) if everything or row.origin != "default"]
    if as_json:
        print_json([structs.asdict(row) for row in rows])
        return
    print_table([(row.path, row.value, click.style(f"({row.origin})", dim=True)) for row in rows], padded=1)
    if not rows:
        note("Everything has its default; --all shows it.")
