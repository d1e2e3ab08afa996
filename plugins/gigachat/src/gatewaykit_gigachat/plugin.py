"""The entry point: what this package adds to a gateway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Provider
from gatewaykit.settings import Section

from .provider import GigaChat
from .settings import GigaChatSettings

if TYPE_CHECKING:
    import click


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """The table ``[gigachat]``."""
    return [GigaChatSettings]


@hookimpl
def gateway_providers(gateway: GatewayContext) -> Iterable[Provider]:
    """GigaChat, if there is a credential for it."""
    settings = gateway.settings.get(GigaChatSettings)
    if settings.kind is None:
        gateway.logger.debug("gigachat is not configured: no credentials, token, user or certificate")
        return []
    return [GigaChat(settings)]


@hookimpl
def gateway_commands(cli: click.Group) -> None:
    """``gatewaykit demo``."""
    from .demo import demo

    cli.add_command(demo)
