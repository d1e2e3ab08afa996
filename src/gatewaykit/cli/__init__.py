"""``gatewaykit`` on the command line: one command a file; plugins add theirs by the hook ``gateway_commands``."""

from __future__ import annotations

from gatewaykit.cli.main import main

__all__ = ["main"]
