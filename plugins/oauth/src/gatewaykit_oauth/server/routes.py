"""All routes of the authorization server."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from ..web import Site


def server_routes(gateway: GatewayContext, authority: Authority, site: Site | None) -> list[Route]:
    """Those of the protocol, those of the management API, and where there are pages at all, those of consent."""
    endings = Endings(authority)
    return [
        endpoint("/oauth/token", TokenEndpoint(authority), "POST"),
        endpoint("/oauth/revoke", endings.revoke, "POST"),
        endpoint("/oauth/introspect", endings.introspect, "POST"),
        *_pages(authority, site),
        endpoint("/oauth/device", DeviceEndpoint(authority), "POST"),
        endpoint("/oauth/userinfo", UserInfo(gateway, authority), "GET", "POST"),
        *metadata_routes(authority),
        *registration_routes(authority),
        *api_routes(gateway, authority),
    ]


def _pages(authority: Authority, site: Site | None) -> list[Route]:
    if site is None:
        return []
    from .client_pages import client_routes
    from .grant_pages import grant_routes
    from .pages import Pages

    return [*Pages(authority, site).routes(), *client_routes(authority, site), *grant_routes(authority, site)]
