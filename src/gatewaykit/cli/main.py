"""The group of commands, and how faults are told to a person."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from gatewaykit.errors import ConfigError, GatewayKitError

COMMANDS = {
    "check": "gatewaykit.cli.check:check",
    "config": "gatewaykit.cli.config:config",
    "new-plugin": "gatewaykit.cli.new_plugin:new_plugin",
    "plugins": "gatewaykit.cli.plugins:plugins",
    "serve": "gatewaykit.cli.serve:serve",
    "version": "gatewaykit.cli.version:version",
}


class Commands(click.Group):
    """Commands that are imported when they are called; the plugins are asked for theirs only when none of ours fits."""

    _asked = False

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, the plugins' among them."""
        self._ask_plugins()
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name."""
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        self._ask_plugins()
        return super().get_command(context, name)

    def invoke(self, context: click.Context) -> Any:
        """Run; an error of ours is told in its own words, without a traceback."""
        try:
            return super().invoke(context)
        except ConfigError as error:
            for fault in error.faults:
                click.secho(f"✗ {fault}", err=True, fg="red")
            sys.exit(1)
        except GatewayKitError as error:
            click.secho(f"✗ {error}", err=True, fg="red")
            sys.exit(1)

    def _ask_plugins(self) -> None:
        if self._asked:
            return
        self._asked = True
        from gatewaykit.assembly import Sources
        from gatewaykit.settings import find_config

        try:
            registry = Sources(find_config(None, os.environ), os.environ, {}).load_plugins(())
        except ConfigError:
            registry = Sources(None, {}, {}).load_plugins(())
        registry.collect("gateway_commands", cli=self)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A pluggable gateway for language models: OpenAI's API in front, GigaChat and others behind."""


config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="Configuration file; without it GATEWAYKIT_CONFIG, then ./gatewaykit.toml if it exists.",
)
