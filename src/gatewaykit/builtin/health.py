"""Whether the process lives, and whether it can serve: for load balancers and supervisors."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """``/livez`` answers while the process can answer at all; ``/readyz`` once the gateway has started."""

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        ready = gateway.ready
        return JSONResponse({"status": "ok" if ready else "starting"}, 200 if ready else 503)

    return [Route("/livez", livez), Route("/readyz", readyz)]
