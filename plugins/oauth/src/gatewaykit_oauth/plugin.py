"""What this package gives to gatewaykit: API keys, the accounts that own them, and pages to manage both, where there is
a database to keep them; and an authorization server where there is an issuer.

Merely installed, without a database and a pepper, it does nothing. What the authorization server needs is imported
only when it is on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.hookspecs import hookimpl
from gatewaykit.migration import MigrationSource
from gatewaykit.settings import DatabaseSettings, ServerSettings

from .server.settings import OAuthSettings
from .settings import AdminSettings, KeysSettings

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute

    from gatewaykit.protocols import Authenticator, GatewayContext, Lifespan
    from gatewaykit.settings import Section
    from gatewaykit.storage import Storage

    from .keys.api_base import Desk
    from .keys.authenticator import ApiKeys
    from .server.authority import Authority
    from .web.site import Site

_made: WeakKeyDictionary[GatewayContext, ApiKeys] = WeakKeyDictionary()
_authorities: WeakKeyDictionary[GatewayContext, Authority] = WeakKeyDictionary()


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """The tables ``[keys]``, ``[admin]`` and ``[oauth]``."""
    return [KeysSettings, AdminSettings, OAuthSettings]


@hookimpl
def gateway_migrations() -> Iterable[MigrationSource]:
    """The tables of accounts, keys and the authorization server."""
    return [MigrationSource("oauth", "gatewaykit_oauth.migrations", "gatewaykit_oauth.schema:metadata")]


@hookimpl
def gateway_authenticators(gateway: GatewayContext) -> Iterable[Authenticator]:
    """The keys of the database, where there is a pepper or one can be made, and the tokens of the issuer."""
    from .keys.peppers import check_peppers

    keys, database = gateway.settings.get(KeysSettings), gateway.settings.get(DatabaseSettings)
    oauth = gateway.settings.get(OAuthSettings)
    if oauth.identity_providers and not gateway.settings.get(AdminSettings).enabled:
        raise ConfigError([ConfigFault("needs the pages: admin.enabled", "oauth.identity_providers")])
    if not check_peppers(keys, database) or gateway.storage is None:
        _refuse_without_database(oauth)
        return []
    from .changes.channel import Changes
    from .keys.authenticator import ApiKeys

    changes = Changes(gateway.storage, keys, gateway.redis)
    _made[gateway] = ApiKeys(gateway.storage, keys, database, changes=changes)
    if oauth.issuer is None:
        return [_made[gateway]]
    from .server.authenticator import AccessTokens
    from .server.authority import Authority

    _authorities[gateway] = Authority(gateway.storage, oauth, keys, database, changes)
    return [_made[gateway], AccessTokens(_authorities[gateway])]


def _refuse_without_database(oauth: OAuthSettings) -> None:
    for name in ("issuer", "identity_providers"):
        if getattr(oauth, name):
            raise ConfigError(
                [ConfigFault("needs a database, and keys.pepper where that is Postgres", f"oauth.{name}")]
            )


@hookimpl
def gateway_lifespan(gateway: GatewayContext) -> Iterable[Lifespan]:
    """What is over is forgotten; without usable keys, a look whether there are some; where there are pages, samples."""
    if gateway.storage is None:
        return []
    if gateway not in _made:
        return [_without_keys(gateway.storage)]
    from .retention import Retention

    settings = gateway.settings
    forgetting = Retention(gateway.storage, settings.get(OAuthSettings), settings.get(AdminSettings)).lifespan()
    return [forgetting, _sampling(gateway)] if settings.get(AdminSettings).enabled else [forgetting]


@asynccontextmanager
async def _without_keys(storage: Storage) -> AsyncIterator[None]:
    from .keys.peppers import refuse_lost_keys

    await asyncio.to_thread(refuse_lost_keys, storage)
    yield


@asynccontextmanager
async def _sampling(gateway: GatewayContext) -> AsyncIterator[None]:
    from .web.live.watching import watching
    from .web.site import Site

    site = Site.of(gateway)
    if site is None:
        yield
        return
    async with watching(gateway.tally, site.samples):
        yield


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """The API that manages keys and accounts, the pages, and the authorization server; asked for after the
    authenticators.
    """
    api_keys, authority = _made.get(gateway), _authorities.get(gateway)
    if api_keys is None:
        return []
    from .keys.api import routes
    from .keys.api_base import Desk

    desk = Desk(gateway, lambda: api_keys.secrets, api_keys.changed)
    site = _site(desk)
    found: list[BaseRoute] = [*routes(desk)]
    if gateway.settings.get(KeysSettings).leak_reports:
        from .leaks import leak_routes

        found += leak_routes(desk)
    if authority is not None:
        from .server.routes import server_routes

        found += server_routes(gateway, authority, site)
    if site is not None:
        from .web.pages import page_routes

        found += page_routes(site)
    return found


def _site(desk: Desk) -> Site | None:
    if not desk.gateway.settings.get(AdminSettings).enabled:
        return None
    from .web.site import Site

    return Site(desk)


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
    from .server.cli import add_commands as add_server_commands
    from .signin.cli import users

    add_commands(cli)
    cli.add_command(users)
    add_server_commands(cli)
