"""``gatewaykit check``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gatewaykit.cli.main import config_option


@click.command()
@config_option
def check(config: Path | None) -> None:
    """Put the gateway together without serving, and report every fault of its configuration.

    Exits with 0 if `gatewaykit serve` would start, with 1 if not.
    """
    from gatewaykit.app import Gateway
    from gatewaykit.serving import require_keys
    from gatewaykit.settings import find_config

    file = find_config(config, os.environ)
    gateway = Gateway(file)
    require_keys(gateway)
    providers = ", ".join(sorted(gateway.providers)) or "no provider"
    click.secho(f"✓ {file or 'environment'}: {providers}", fg="green")
    if not gateway.providers:
        click.echo("  No provider is configured: set GIGACHAT_CREDENTIALS, for example, or add an upstream.")
    if not gateway.guarded:
        click.echo("  No keys are configured: `gatewaykit serve` will make one for each run.")
