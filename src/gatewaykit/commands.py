"""For the commands of plugins: the options, the tables and the marks that the gateway's own commands have.

::

    @hookimpl
    def gateway_commands(cli):
        @cli.command()
        @config_option
        @json_option
        def colours(config, as_json):
            "List the colours."
            rows = [(visible(name), "a colour") for name in configured(config).settings.get(Colours).names]
            print_json(rows) if as_json else print_table(rows, padded=1)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gatewaykit.cli.main import config_option, json_option
from gatewaykit.cli.output import bad, good, note, print_json, print_table

if TYPE_CHECKING:
    from gatewaykit.app import Gateway


def configured(config: Path | None) -> Gateway:
    """The gateway of a configuration file, put together and not started.

    Raises :class:`~gatewaykit.errors.ConfigError`, which the command line tells in plain words.
    """
    from gatewaykit.app import Gateway
    from gatewaykit.settings import find_config

    return Gateway(find_config(config, os.environ))


def visible(text: str) -> str:
    """``text`` with everything that could move a terminal's cursor, break a line or turn its direction spelled out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


__all__ = [
    "bad",
    "config_option",
    "configured",
    "good",
    "json_option",
    "note",
    "print_json",
    "print_table",
    "visible",
]
