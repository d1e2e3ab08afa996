"""Everything that is no dialect: the Starlette routes of plugins, and the answer to paths that nobody has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Router

from gatewaykit.current import REQUEST
from gatewaykit.errors import ClientGone, GatewayError, InternalError, MethodNotAllowed, NotFound
from gatewaykit.exchange import Exchange, read_incoming
from gatewaykit.protocols import Dialect
from gatewaykit.responding import Send
from gatewaykit.types import Incoming, Principal, RouteRecord
from gatewaykit.watch import Receive

logger = logging.getLogger(__name__)


class RouteTable:
    """Serves the routes; errors are told in the words of the dialect whose paths are nearest.

    ``observe`` are called with the record of each request.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        dialects: Sequence[Dialect],
        observe: Sequence[Callable[[RouteRecord], None]] = (),
    ) -> None:
        self._observe = tuple(observe)
        self._mounts = tuple(route for route in routes if isinstance(route, Mount))
        self._routes = tuple(routes)
        self._dialects = tuple(dialects)
        self._app = ExceptionMiddleware(
            Router(routes=self._routes, redirect_slashes=False, default=_nothing_here),
            {HTTPException: self._http_error},
        )

    def owns(self, path: str) -> bool:
        """Whether a route has this path, relative to the mount point."""
        scope = {"type": "http", "path": path, "method": "GET", "root_path": "", "headers": []}
        return any(route.matches(scope)[0] is not Match.NONE for route in self._routes)

    async def __call__(self, path: str, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request; a route that fails gives a 500 without a word of why."""
        status, began, arrived = 0, time.time(), time.monotonic()
        incoming = read_incoming(scope, path)
        # Starlette's routes raise for a wrong method only where an application will tell of it.
        inner: dict[str, Any] = {"app": self._app, **scope, "gatewaykit.path": path, "gatewaykit.incoming": incoming}
        token = REQUEST.set(incoming)

        async def watched(message: Any) -> None:
            nonlocal status
            status = status or message.get("status", 0)
            await send(message)

        try:
            await self._app(inner, receive, watched)
        except Exception as error:
            logger.error("route %s failed", path, exc_info=error)
            if status:
                raise
            status = 500
            await self._refuse(InternalError(), incoming, send)
        finally:
            if self._observe:
                self._tell(inner, incoming, status, began, time.monotonic() - arrived)
            REQUEST.reset(token)

    def _tell(self, scope: Mapping[str, Any], incoming: Incoming, status: int, began: float, seconds: float) -> None:
        principal: Principal | None = scope.get("gatewaykit.principal")
        record = RouteRecord(
            incoming.method,
            self._route(scope, incoming.path),
            status or ClientGone.status,
            seconds,
            incoming.path,
            incoming.request_id,
            incoming.trace_id,
            began,
            incoming.client,
            principal.id if principal is not None else None,
        )
        for observe in self._observe:
            observe(record)

    def _route(self, scope: Mapping[str, Any], path: str) -> str:
        """The path of the route that was found, as it was declared."""
        route = scope.get("route")
        template = str(getattr(route, "path", ""))
        if route is None or route in self._routes:
            return template
        return next((mount.path for mount in self._mounts if path.startswith(f"{mount.path}/")), "") + template

    async def refuse(self, error: GatewayError, scope: Mapping[str, Any], path: str, send: Send) -> None:
        """Answer with ``error``."""
        await self._refuse(error, read_incoming(scope, path), send)

    async def _refuse(self, error: GatewayError, incoming: Incoming, send: Send) -> None:
        exchange = Exchange(incoming, send)
        exchange.dialect = self._nearest(incoming.path)
        await exchange.refuse(error)

    def _nearest(self, path: str) -> Dialect:
        """The dialect that shares most of the path: an Anthropic client wants an Anthropic error."""

        def shared(dialect: Dialect) -> int:
            return max(_common(path, known) for _, known in dialect.routes)

        return max(self._dialects, key=shared)

    async def _http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        known: GatewayError = MethodNotAllowed() if status == 405 else NotFound()
        if status not in {404, 405} and isinstance(error, HTTPException):
            return Response(error.detail, status, error.headers, "text/plain")
        incoming: Incoming = request.scope["gatewaykit.incoming"]
        body = self._nearest(incoming.path).encode_error(known, incoming.request_id)
        headers = dict(getattr(error, "headers", None) or {}) | {"x-request-id": incoming.request_id}
        return Response(body, status, headers, "application/json")


async def _nothing_here(scope: Any, receive: Any, send: Any) -> None:
    raise HTTPException(404)


def _common(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one.split("/"), other.split("/"), strict=False):
        if a != b:
            break
        length += 1
    return length
