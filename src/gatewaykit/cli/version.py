"""``gatewaykit version``."""

from __future__ import annotations

import click

from gatewaykit.cli.main import json_option
from gatewaykit.cli.output import print_json


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    from importlib.metadata import version as version_of
    from platform import python_version

    own = version_of("gatewaykit")
    if as_json:
        print_json({"gatewaykit": own, "python": python_version()})
    else:
        click.echo(f"gatewaykit {own}")
