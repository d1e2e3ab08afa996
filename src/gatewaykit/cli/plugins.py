"""``gatewaykit plugins``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from gatewaykit.cli.main import config_option

_MARKS = {"active": ("✓", "green"), "blocked": ("–", "yellow"), "broken": ("✗", "red")}


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(config: Path | None, as_json: bool) -> None:
    """List the installed plugins: package, state and hooks."""
    from gatewaykit.assembly import Sources
    from gatewaykit.settings import find_config

    registry = Sources(find_config(config, os.environ), os.environ, {}).load_plugins(())
    if as_json:
        click.echo(json.dumps([asdict(info) for info in registry.report], ensure_ascii=False, indent=2))
        return
    for info in registry.report:
        mark, colour = _MARKS[info.status]
        origin = f"{info.distribution} {info.version}".strip()
        what = info.reason or ", ".join(hook.removeprefix("gateway_") for hook in info.hooks)
        click.echo(f"{click.style(mark, fg=colour)} {info.name:16} {origin:28} {what}")
    for fault in registry.faults:
        click.secho(f"✗ {fault}", err=True, fg="red")
