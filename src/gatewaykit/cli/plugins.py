"""``gatewaykit plugins``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import structs

from gatewaykit.cli.main import config_option, json_option
from gatewaykit.cli.output import print_json, print_table, tell_faults

if TYPE_CHECKING:
    from gatewaykit.registry import PluginInfo

_MARKS = {"active": ("✓", "green"), "blocked": ("–", "yellow"), "broken": ("✗", "red")}


@click.command()
@config_option
@json_option
def plugins(config: Path | None, as_json: bool) -> None:
    """List the installed plugins: package, state and hooks.

    Exits with 1 if a plugin that must take part does not load.
    """
    from gatewaykit.settings import find_config
    from gatewaykit.sources import Sources

    registry = Sources(find_config(config, os.environ), os.environ, {}).load_plugins(())
    if as_json:
        print_json([structs.asdict(info) for info in registry.report])
    else:
        print_table([_row(info) for info in registry.report], padded=2)
        tell_faults(registry.faults)
    if registry.faults:
        raise SystemExit(1)


def _row(info: PluginInfo) -> tuple[str, str, str]:
    mark, colour = _MARKS[info.status]
    what = ", ".join(hook.removeprefix("gateway_") for hook in info.hooks)
    if info.status != "active":
        what = click.style(": ".join(filter(None, (info.status, info.reason))), fg=colour)
    return f"{click.style(mark, fg=colour)} {info.name}", f"{info.distribution} {info.version}".strip(), what
