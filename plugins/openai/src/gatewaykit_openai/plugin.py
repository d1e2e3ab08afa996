"""What this package gives to gatewaykit: one provider for each configured upstream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gatewaykit.hookspecs import hookimpl

from .provider import OpenAICompatible
from .settings import OpenAISettings

if TYPE_CHECKING:
    from gatewaykit.protocols import GatewayContext, Provider
    from gatewaykit.settings import Section


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """The table ``[openai]``."""
    return [OpenAISettings]


@hookimpl
def gateway_providers(gateway: GatewayContext) -> Iterable[Provider]:
    """One provider for each upstream, of the same name."""
    upstreams = gateway.settings.get(OpenAISettings).upstreams
    return [OpenAICompatible(name, upstream) for name, upstream in upstreams.items()]
