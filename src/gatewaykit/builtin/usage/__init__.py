"""What was used, by whom, and what it cost: for a key its own figures, for the operator those of all.

``GET /v1/usage``, ``GET /api/admin/usage`` and ``GET /api/admin/usage/records``; see ``docs/usage-and-prices.md``.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gatewaykit.errors import NotFound
from gatewaykit.guarding import Endpoint, guarded
from gatewaykit.hookspecs import hookimpl
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext
from gatewaykit.types import ADMIN, USAGE, Principal


async def _nothing_kept(request: Request, principal: Principal) -> Response:
    raise NotFound("This gateway keeps no records of usage: it has no database.")


def _endpoints(gateway: GatewayContext) -> tuple[Endpoint, Endpoint, Endpoint]:
    if gateway.storage is None:
        return _nothing_kept, _nothing_kept, _nothing_kept
    from gatewaykit.builtin.usage.answers import Usage

    usage = Usage(gateway.storage, PriceBook.of(gateway).currency, gateway.standings)
    return usage.own, usage.everybody, usage.records


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """The routes. Without a database they say that there is nothing to tell."""
    own, everybody, records = _endpoints(gateway)
    return [
        Route("/v1/usage", guarded(gateway, USAGE, own)),
        Route("/api/admin/usage", guarded(gateway, ADMIN, everybody)),
        Route("/api/admin/usage/records", guarded(gateway, ADMIN, records)),
    ]
