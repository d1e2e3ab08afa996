"""The group of commands, and how faults are told to a person."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from gatewaykit.cli.output import Formatter, bad, colour_wanted, prepare_streams, tell_faults
from gatewaykit.errors import ConfigError, GatewayKitError
from gatewaykit.logs import hold_logs

COMMANDS = {
    "check": "gatewaykit.cli.check:check",
    "config": "gatewaykit.cli.config:config",
    "db": "gatewaykit.cli.db:db",
    "new-plugin": "gatewaykit.cli.new_plugin:new_plugin",
    "plugins": "gatewaykit.cli.plugins:plugins",
    "serve": "gatewaykit.cli.serve:serve",
    "version": "gatewaykit.cli.version:version",
}


class Context(click.Context):
    """A context whose help has our form."""

    formatter_class = Formatter


class Commands(click.Group):
    """Commands that are imported when they are called; the plugins are asked for theirs only when none of ours fits."""

    context_class = Context
    _asked = False

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run as a program."""
        prepare_streams()
        return super().main(*args, obj=hold_logs(), color=colour_wanted(), **extra)

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, the plugins' among them."""
        self._ask_plugins()
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name."""
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name].partition(":")
            return _dressed(getattr(import_module(module), attribute))
        self._ask_plugins()
        command = super().get_command(context, name)
        return None if command is None else _dressed(command)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; an unknown one is refused with the nearest of all names."""
        name = args[0]
        if self.get_command(context, name) is None and not name.startswith("-"):
            near = get_close_matches(name, self.list_commands(context), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"There are: {', '.join(self.list_commands(context))}."
            raise click.UsageError(f"No such command {name!r}{'; ' if near else '. '}{hint}", context)
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        """Run; an error of ours is told in its own words, without a traceback."""
        try:
            return super().invoke(context)
        except ConfigError as error:
            tell_faults(error.faults)
        except GatewayKitError as error:
            bad(str(error))
        sys.exit(1)

    def _ask_plugins(self) -> None:
        if self._asked:
            return
        self._asked = True
        from gatewaykit.settings import find_config
        from gatewaykit.sources import Sources

        try:
            registry = Sources(find_config(None, os.environ), os.environ, {}).load_plugins(())
        except ConfigError:
            registry = Sources(None, {}, {}).load_plugins(())
        registry.collect("gateway_commands", cli=self)


def _dressed(command: click.Command) -> click.Command:
    """The command, and all below it, with help in our form, and the whole first sentence of it in lists."""
    command.context_class = Context
    command.short_help = command.get_short_help_str(limit=1000)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _dressed(child)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A pluggable gateway for language models: OpenAI's API in front, GigaChat and others behind."""


config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file; without it GATEWAYKIT_CONFIG, then ./gatewaykit.toml if it exists.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
