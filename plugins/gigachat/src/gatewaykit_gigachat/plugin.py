"""The entry point: what this package adds to a gateway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gatewaykit.hookspecs import hookimpl
from gatewaykit.limiting import Backend, choose_backend
from gatewaykit.protocols import GatewayContext, Provider
from gatewaykit.settings import Section, ServerSettings

from .provider import GigaChat
from .settings import GigaChatSettings

if TYPE_CHECKING:
    import click

_LEASE = 60.0
"""Seconds after which the places of a process that died are free again."""


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """The table ``[gigachat]``."""
    return [GigaChatSettings]


@hookimpl
def gateway_providers(gateway: GatewayContext) -> Iterable[Provider]:
    """GigaChat, if there is a credential for it."""
    settings = gateway.settings.get(GigaChatSettings)
    if not settings.members:
        gateway.logger.debug("gigachat is not configured: no credentials, token, user or certificate")
        return []
    return [GigaChat(settings, shared_places(gateway, settings))]


def shared_places(gateway: GatewayContext, settings: GigaChatSettings) -> Backend | None:
    """What counts places for all processes; ``None`` if there is only this one."""
    workers = gateway.settings.get(ServerSettings).workers
    backend = choose_backend(
        gateway,
        settings.store,
        setting="gigachat.store",
        lease=_LEASE,
        instances=settings.instances or workers,
        what="requests to GigaChat",
    )
    return None if backend.instant else backend


@hookimpl
def gateway_commands(cli: click.Group) -> None:
    """``gatewaykit demo``."""
    from .demo import demo

    cli.add_command(demo)
