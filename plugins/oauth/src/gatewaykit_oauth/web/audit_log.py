"""The audit log, for admins: who did what, when and from where; newest first."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.guarding import read_query

from ..keys import store
from ..keys.api_base import Cursor, Text
from ..signin.sessions import Session
from .rendering import render
from .site import site_of

ON_A_PAGE = 50


class AuditQuery(Struct, frozen=True):
    """Which changes are listed."""

    actor: Text = ""
    object: Text = ""
    after: Cursor | None = None


async def show_audit(request: Request, session: Session) -> Response:
    """A part of the log."""
    query = read_query(request, AuditQuery)
    found = await site_of(request).desk.read(
        lambda database: store.audit(
            database,
            key_id=query.object.strip() or None,
            actor=query.actor.strip() or None,
            after=query.after,
            limit=ON_A_PAGE,
        )
    )
    return render(request, "audit.html", entries=found.items, following=found.next, query=query)
