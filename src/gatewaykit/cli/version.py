"""``gatewaykit version``."""

from __future__ import annotations

from importlib.metadata import version as version_of

import click


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"gatewaykit {version_of('gatewaykit')}")
