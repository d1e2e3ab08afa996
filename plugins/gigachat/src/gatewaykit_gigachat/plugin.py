"""The entry point: what this package adds to a gateway."""

from __future__ import annotations

from collections.abc import Iterable

from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Provider
from gatewaykit.settings import Section

from .provider import GigaChat
from .settings import GigaChatSettings


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
