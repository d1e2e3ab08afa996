"""``gatewaykit config show``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from gatewaykit.cli.main import config_option


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@config_option
@click.option("--all", "everything", is_flag=True, help="Show defaults too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(config: Path | None, everything: bool, as_json: bool) -> None:
    """Print each setting with its value and where it comes from. Secrets are masked."""
    from gatewaykit.app import Gateway
    from gatewaykit.settings import describe, find_config

    gateway = Gateway(find_config(config, os.environ))
    rows = [row for row in describe(gateway.settings) if everything or row.origin != "default"]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2))
        return
    width = max((len(row.path) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row.path:{width}}  {row.value}  {click.style(f'({row.origin})', dim=True)}")
    if not rows:
        click.echo("Everything has its default; --all shows it.")
