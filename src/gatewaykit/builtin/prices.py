"""The price list: its settings, and ``GET /api/admin/prices``, which shows the one in force and those before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gatewaykit.guarding import answer, guarded
from gatewaykit.hookspecs import hookimpl
from gatewaykit.pricing import PriceBook, PriceSettings
from gatewaykit.protocols import GatewayContext
from gatewaykit.settings import Section
from gatewaykit.types import ADMIN, Principal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

EARLIER = 100
"""The most earlier lists that are shown."""


def earlier(session: Session, version: str) -> list[dict[str, Any]]:
    """The latest lists by which calls were priced, newest first, without the one in force."""
    from sqlalchemy import select

    from gatewaykit.storage.tables import metadata

    table = metadata.tables["price_lists"]
    names = ("version", "created", "currency", "document")
    query = select(*(table.c[name] for name in names)).where(table.c.version != version)
    rows = session.execute(query.order_by(table.c.created.desc(), table.c.version).limit(EARLIER))
    return [dict(row) for row in rows.mappings()]


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[prices]``."""
    return [PriceSettings]


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """``/api/admin/prices``. Without a database it knows of no earlier list."""
    book, storage = PriceBook.of(gateway), gateway.storage
    current = {"version": book.version, "currency": book.currency, "unknown": book.unknown, "document": book.document}

    async def prices(request: Request, principal: Principal) -> Response:
        before = [] if storage is None else await storage.read(lambda session: earlier(session, book.version))
        return answer({"object": "prices", "current": current, "earlier": before})

    return [Route("/api/admin/prices", guarded(gateway, ADMIN, prices))]
