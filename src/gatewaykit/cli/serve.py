"""``gatewaykit serve``."""

from __future__ import annotations

import gc
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatewaykit.cli.main import config_option
from gatewaykit.logs import HeldLogs, configure_logs

if TYPE_CHECKING:
    from gatewaykit.app import Gateway

_ONE_RUN = "one_run"


@click.command()
@config_option
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on; 0 for a free one.")
@click.option("--workers", type=int, help="Worker processes.")
@click.pass_obj
def serve(held: HeldLogs, config: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve the gateway until it is told to stop.

    Without any keys it makes one for this run and prints it, as long as only this machine can reach the address.
    Logs go to standard output, everything for people to standard error.
    """
    given = {"server.host": host, "server.port": port, "server.workers": workers}
    overrides = {path: value for path, value in given.items() if value is not None}
    with _uncollected():
        from gatewaykit.serving.server import GatewayServer
        from gatewaykit.settings import find_config

        gateway, key = _with_keys(find_config(config, os.environ), overrides, held)
        server = GatewayServer(gateway)
    configure_logs(gateway.settings, held, take_stdout=True)
    server.run(on_ready=lambda: _greet(gateway, server.address, key))
    gateway.logger.info("has stopped")


@contextmanager
def _uncollected() -> Iterator[None]:
    """A start makes a hundred thousand objects that stay: looking for garbage among them is an eighth of its time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _with_keys(file: Path | None, overrides: dict[str, Any], held: HeldLogs) -> tuple[Gateway, str | None]:
    """The gateway; on this machine alone, one without keys gets a key for this run."""
    from gatewaykit.app import Gateway
    from gatewaykit.serving.server import require_keys

    gateway = Gateway(file, overrides=overrides)
    require_keys(gateway)
    if gateway.guarded:
        return gateway, None
    held.records.clear()
    key = f"gk_local_{secrets.token_urlsafe(24)}"
    return Gateway(file, overrides={**overrides, f"static_keys.keys.{_ONE_RUN}": key}), key


def _greet(gateway: Gateway, address: str, key: str | None) -> None:
    """Where to go from here: for people, and as a line of the log where that is not before their eyes."""
    if not sys.stdout.isatty():
        gateway.logger.info("serves at %s", address)
    lines = [
        click.style("gatewaykit", bold=True) + f" serves at {click.style(address, fg='cyan')}",
        _label("providers") + _providers(gateway),
    ]
    lines += [_label(label) + click.style(text, fg="cyan") for label, text in gateway.greetings(address)]
    if key is not None:
        lines.append(_label("key") + click.style(key, fg="cyan"))
        lines.append(_label("") + "for this run only; put your own under [static_keys.keys]")
    click.echo("\n".join(lines), err=True)


def _label(text: str) -> str:
    return "  " + click.style(f"{text:11}", dim=True)


def _providers(gateway: Gateway) -> str:
    return ", ".join(sorted(gateway.providers)) or "no provider yet"
