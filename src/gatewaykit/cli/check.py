"""``gatewaykit check``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from gatewaykit.cli.main import config_option, json_option
from gatewaykit.cli.output import good, in_order, note, print_json
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.logs import HeldLogs

if TYPE_CHECKING:
    from gatewaykit.app import Gateway


@click.command()
@config_option
@json_option
@click.pass_obj
def check(held: HeldLogs, config: Path | None, as_json: bool) -> None:
    """Report every fault of the configuration, without serving.

    Puts the gateway together as `gatewaykit serve` would. Exits with 0 if that would start, with 1 if not.
    """
    from gatewaykit.settings import find_config

    file = find_config(config, os.environ)
    try:
        gateway = _examined(file)
    except ConfigError as error:
        if not as_json:
            raise
        print_json(_document(file, faults=[structs.asdict(fault) for fault in in_order(error.faults)]))
        raise SystemExit(1) from None
    notes = [*_missing(gateway), *held.warnings()]
    providers = sorted(gateway.providers)
    if as_json:
        print_json(_document(file, providers=providers, notes=notes))
        return
    good(f"{file or 'no file'}: {', '.join(providers) or 'no provider'}")
    for text in notes:
        note(text)


def _examined(file: Path | None) -> Gateway:
    from gatewaykit.app import Gateway
    from gatewaykit.serving.server import require_keys, tls_context

    gateway = Gateway(file)
    faults: list[ConfigFault] = []
    for examine in (require_keys, lambda whole: tls_context(whole.settings)):
        try:
            examine(gateway)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return gateway


def _missing(gateway: Gateway) -> list[str]:
    """What is no fault, but leaves little to serve."""
    notes = []
    if not gateway.providers:
        notes.append("No provider is configured: set GIGACHAT_CREDENTIALS, for example, or add an upstream.")
    if not gateway.guarded:
        notes.append("No keys are configured: `gatewaykit serve` will make one for each run.")
    return notes


def _document(file: Path | None, **told: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"faults": [], "notes": [], "providers": []}
    return {"ok": not told.get("faults"), "config": None if file is None else str(file)} | empty | told
