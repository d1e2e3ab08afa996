"""What the commands of the authorization server share: that there is one, and how lists of it look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from gatewaykit.commands import note, print_table
from gatewaykit.errors import ConfigError, ConfigFault

from ..keys.cli_base import Desk, opened
from .settings import OAuthSettings


@contextmanager
def opened_server(config: Path | None) -> Iterator[tuple[Desk, OAuthSettings]]:
    """A desk at the database, and the server's settings. Raises :class:`~gatewaykit.errors.ConfigError` without one."""
    with opened(config) as desk:
        settings = desk.gateway.settings.get(OAuthSettings)
        if settings.issuer is None:
            raise ConfigError([ConfigFault("is not set: without it there is no authorization server", "oauth.issuer")])
        yield desk, settings


def mark(good_one: bool, text: str) -> str:
    """The text, and whether it is in force."""
    return f"{click.style('✓', fg='green') if good_one else click.style('–', fg='yellow')} {text}"


def show_table(heading: Sequence[str], rows: Sequence[tuple[str, ...]], empty: str, *, more: bool = False) -> None:
    """A list with its heading, or what is said instead of an empty one."""
    if not rows:
        note(empty)
        return
    print_table([tuple(click.style(cell, dim=True) for cell in heading), *rows], padded=len(heading) - 1)
    if more:
        note("There are more.")
