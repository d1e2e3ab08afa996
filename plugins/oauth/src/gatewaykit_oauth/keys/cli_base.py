"""What the commands for keys and accounts share: the database, opened without a server, and options for limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gatewaykit.errors import ConfigError, ConfigFault

from .cli_values import NONE, amount, money
from .model import Actor, LimitChanges, Page

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from gatewaykit import Gateway
    from gatewaykit.storage import Storage

    from .secrets import Secrets

T = TypeVar("T")
CLI = Actor("cli")
"""Who acts: whoever can read the configuration may do everything."""

PERIODS = ("day", "week", "month", "total")
_LIMITS = {
    "rpm": "Requests a minute.",
    "tpm": "Tokens a minute.",
    "rpd": "Requests a day.",
    "tpd": "Tokens a day.",
    "concurrency": "Calls at the same time.",
}


class Desk:
    """The database of a configuration, open."""

    def __init__(self, gateway: Gateway, storage: Storage) -> None:
        self.gateway = gateway
        self._storage = storage

    @property
    def address(self) -> str:
        """Where the gateway of this configuration serves, as seen from this machine."""
        from gatewaykit.settings import ServerSettings

        server = self.gateway.settings.get(ServerSettings)
        scheme = "http" if server.tls_certfile is None else "https"
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(server.host, server.host)  # noqa: S104 - it is replaced
        return f"{scheme}://{host}:{server.port}{server.root_path}"

    @property
    def longest(self) -> timedelta | None:
        """The longest that a key may live."""
        from ..settings import KeysSettings

        return self.gateway.settings.get(KeysSettings).longest

    def secrets(self) -> Secrets:
        """What makes and digests secrets here. Raises :class:`~gatewaykit.errors.ConfigError`."""
        from gatewaykit.settings import DatabaseSettings

        from ..settings import KeysSettings
        from .peppers import load_secrets

        settings = self.gateway.settings
        return load_secrets(settings.get(KeysSettings), settings.get(DatabaseSettings), self._storage)

    def read(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns."""
        with self._storage.transaction(write=False) as session:
            return work(session)

    def write(self, work: Callable[[Session], T]) -> T:
        """What ``work`` returns, committed. Gateways that run learn of it from the feed of changes; where there is a
        Redis, they are asked to look there now.
        """
        with self._storage.transaction() as session:
            result = work(session)
        if (redis := self.gateway.redis) is not None:
            from ..changes.channel import ask_all

            asyncio.run(ask_all(redis))
        return result


@contextmanager
def opened(config: Path | None) -> Iterator[Desk]:
    """The database of this configuration file, brought up to date."""
    from gatewaykit.commands import configured

    gateway = configured(config)
    if gateway.storage is None:
        raise ConfigError([ConfigFault("is not set: keys are kept in a database", "database.url")])
    with gateway.storage.opened() as storage:
        yield Desk(gateway, storage)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--rpm`` and the like; :func:`limits_of` takes them out again."""
    options = [click.option(f"--{name}", type=amount, metavar="NUMBER", help=text) for name, text in _LIMITS.items()]
    options.append(click.option("--budget", type=money, metavar="AMOUNT", help="Money in each period, as 100.50."))
    options.append(click.option("--budget-period", type=click.Choice(PERIODS), help="Period of the budget: month."))
    for option in reversed(options):
        command = option(command)
    return command


def limits_of(given: dict[str, Any]) -> LimitChanges:
    """What was said of limits on the command line; it is taken out of ``given``."""
    said = {name: given.pop(name) for name in (*_LIMITS, "budget", "budget_period")}
    changes: dict[str, Any] = {}
    for name, value in said.items():
        if value is not None:
            changes[name] = None if value == NONE else value
    return LimitChanges(**changes)


def all_pages(page: Callable[[str | None], Page[T]], *, everything: bool) -> Page[T]:
    """The first page, or all of them as one."""
    found = page(None)
    items, following = [*found.items], found.next
    while everything and following is not None:
        found = page(following)
        items += found.items
        following = found.next
    return Page(tuple(items), following)
