"""``gatewaykit serve``."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatewaykit.cli.main import config_option

if TYPE_CHECKING:
    from gatewaykit.app import Gateway

_ONE_RUN = "one_run"


@click.command()
@config_option
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 for a free one.")
@click.option("--workers", type=int, help="Worker processes.")
def serve(config: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the gateway until it is told to stop.

    Without any keys it makes one for this run and prints it, as long as only this machine can reach the address.
    """
    from gatewaykit.logs import configure_logs
    from gatewaykit.serving import GatewayServer
    from gatewaykit.settings import find_config

    file = find_config(config, os.environ)
    given = {"server.host": host, "server.port": port, "server.workers": workers}
    gateway, key, overrides = _with_keys(file, {path: value for path, value in given.items() if value is not None})
    configure_logs(gateway.settings.log)
    environ = _as_environment(file, overrides)
    server = GatewayServer(gateway, environ)
    server.run(on_ready=lambda: _greet(gateway, server.address, key))


def _with_keys(file: Path | None, overrides: dict[str, Any]) -> tuple[Gateway, str | None, dict[str, Any]]:
    """The gateway; on this machine alone, one without keys gets a key for this run."""
    from gatewaykit.app import Gateway
    from gatewaykit.serving import require_keys

    gateway = Gateway(file, overrides=overrides)
    require_keys(gateway)
    if gateway.guarded:
        return gateway, None, overrides
    key = f"gk_local_{secrets.token_urlsafe(24)}"
    overrides = {**overrides, f"static_keys.keys.{_ONE_RUN}": key}
    gateway = Gateway(file, overrides=overrides)
    return gateway, key, overrides


def _as_environment(file: Path | None, overrides: dict[str, Any]) -> dict[str, str]:
    """What worker processes need to come to the same settings."""
    environ = {f"GATEWAYKIT_{path.upper().replace('.', '__')}": str(value) for path, value in overrides.items()}
    return environ | ({"GATEWAYKIT_CONFIG": str(file)} if file else {})


def _greet(gateway: Gateway, address: str, key: str | None) -> None:
    """On a terminal, or with a key that is shown only once: where to go from here."""
    if key is None and not sys.stdout.isatty():
        return
    providers = ", ".join(sorted(gateway.providers)) or "none yet"
    lines = [f"gatewaykit serves at {address}", f"  providers  {providers}"]
    if key is not None:
        lines += [
            f"  key        {key}  (for this run only; put your own under [static_keys.keys])",
            f"  try        curl {address}/v1/models -H 'Authorization: Bearer {key}'",
        ]
    click.echo("\n".join(lines), err=True)
