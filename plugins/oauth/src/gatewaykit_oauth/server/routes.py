"""All routes of the authorization server."""

from __future__ import annotations

from starlette.routing import Route

from gatewaykit.protocols import GatewayContext

from .answering import endpoint
from .api import api_routes
from .authority import Authority
from .devices import DeviceEndpoint
from .ending import Endings
from .metadata import metadata_routes
from .registration import registration_routes
from .token_endpoint import TokenEndpoint
from .userinfo import UserInfo


def server_routes(gateway: GatewayContext, authority: Authority) -> list[Route]:
    """Those of the protocol, and those of the management API."""
    endings = Endings(authority)
    return [
        endpoint("/oauth/token", TokenEndpoint(authority), "POST"),
        endpoint("/oauth/revoke", endings.revoke, "POST"),
        endpoint("/oauth/introspect", endings.introspect, "POST"),
        endpoint("/oauth/device", DeviceEndpoint(authority), "POST"),
        endpoint("/oauth/userinfo", UserInfo(gateway, authority), "GET", "POST"),
        *metadata_routes(authority),
        *registration_routes(authority),
        *api_routes(gateway, authority),
    ]
