"""What this package gives to gatewaykit: API keys, the accounts that own them, and pages to manage both, where there is
a database to keep them.

Merely installed, without a database and a pepper, it does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from gatewaykit.hookspecs import hookimpl
from gatewaykit.migration import MigrationSource
from gatewaykit.settings import DatabaseSettings, ServerSettings

from .settings import AdminSettings, KeysSettings

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute

    from gatewaykit.protocols import Authenticator, GatewayContext, Lifespan
    from gatewaykit.settings import Section
    from gatewaykit.storage import Storage

    from .keys.api_base import Desk
    from .keys.authenticator import ApiKeys

_made: WeakKeyDictionary[GatewayContext, ApiKeys] = WeakKeyDictionary()


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """The tables ``[keys]`` and ``[admin]``."""
    return [KeysSettings, AdminSettings]


@hookimpl
def gateway_migrations() -> Iterable[MigrationSource]:
    """The tables of accounts and keys."""
    return [MigrationSource("oauth", "gatewaykit_oauth.migrations", "gatewaykit_oauth.tables:metadata")]


@hookimpl
def gateway_authenticators(gateway: GatewayContext) -> Iterable[Authenticator]:
    """The keys of the database, where there is a pepper or one can be made."""
    from .keys.peppers import check_peppers

    keys, database = gateway.settings.get(KeysSettings), gateway.settings.get(DatabaseSettings)
    if not check_peppers(keys, database) or gateway.storage is None:
        return []
    from .keys.authenticator import ApiKeys

    _made[gateway] = ApiKeys(gateway.storage, keys, database, gateway.redis)
    return [_made[gateway]]


@hookimpl
def gateway_lifespan(gateway: GatewayContext) -> Iterable[Lifespan]:
    """Where keys cannot be used, a look whether there are some."""
    return [] if gateway.storage is None or gateway in _made else [_without_keys(gateway.storage)]


@asynccontextmanager
async def _without_keys(storage: Storage) -> AsyncIterator[None]:
    from .keys.peppers import refuse_lost_keys

    await asyncio.to_thread(refuse_lost_keys, storage)
    yield


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """The API that manages keys and accounts, and the pages; it is asked for after the authenticators."""
    api_keys = _made.get(gateway)
    if api_keys is None:
        return []
    from .keys.api import routes
    from .keys.api_base import Desk

    desk = Desk(gateway, lambda: api_keys.secrets, api_keys.changed)
    return [*routes(desk), *_pages(desk)]


def _pages(desk: Desk) -> Iterable[BaseRoute]:
    if not desk.gateway.settings.get(AdminSettings).enabled:
        return []
    from .web.pages import page_routes
    from .web.site import Site

    return page_routes(Site(desk))


@hookimpl
def gateway_greetings(gateway: GatewayContext, address: str) -> Iterable[tuple[str, str]]:
    """Where the pages are; as long as there is no admin, with a link by which the first one comes in."""
    admin = gateway.settings.get(AdminSettings)
    if gateway.storage is None or gateway not in _made or not admin.enabled:
        return []
    from .signin.links import first_link

    base = admin.base_url or address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    with gateway.storage.opened() as storage, storage.transaction() as session:
        token = first_link(session, datetime.now(UTC))
    root = gateway.settings.get(ServerSettings).root_path
    if token is None:
        return [("pages", f"{base}{root}/admin/")]
    return [
        ("set up", f"{base}{root}/admin/setup/{token}"),
        ("", "once, within a day: choose the first admin's password"),
    ]


@hookimpl
def gateway_commands(cli: click.Group) -> None:
    """``gatewaykit keys``, with the accounts that own them, and ``gatewaykit users``, who sign in."""
    from .keys.cli import add_commands
    from .signin.cli import users

    add_commands(cli)
    cli.add_command(users)
