"""``/admin/grants``: which programs may act for somebody, and how that is taken back. Admins see everybody's."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import NotFound
from gatewaykit.guarding import read_query

from ..keys.api_base import Cursor, named
from ..keys.audit import take_turn
from ..web import Session, Site, acting, redirect, render
from ..web.rendering import Entry
from ..words import N_
from .authority import Authority
from .grants import end_grant
from .listing import find_grants, get_grant

PATH = "/admin/grants"
ON_A_PAGE = 50


class GrantsQuery(Struct, frozen=True):
    """Which part of the list; ``done`` is what led here."""

    after: Cursor | None = None
    done: str = ""


def grant_routes(authority: Authority, site: Site) -> list[Route]:
    """The list, and the button in each line of it."""

    async def show(request: Request, session: Session) -> Response:
        query, now = read_query(request, GrantsQuery), datetime.now(UTC)
        account = None if session.is_admin else session.account.id
        found = await authority.read(
            lambda database: find_grants(
                database, now=now, account=account, active=True, after=query.after, limit=ON_A_PAGE
            )
        )
        own = [grant for grant in found.items if session.is_admin or grant.account == account]
        return render(request, "oauth/grants.html", grants=own, following=found.next, after=query.after)

    async def end(request: Request, session: Session) -> Response:
        grant_id, actor = named(request, "id"), acting(request, session)

        def work(database: Database) -> None:
            take_turn(database)
            now = datetime.now(UTC)
            grant = get_grant(database, grant_id, now)
            if not session.is_admin and grant.account != session.account.id:
                raise NotFound("There is no such grant.")
            end_grant(database, actor, grant_id, "it was withdrawn", now)

        await authority.change(work)
        return redirect(request, PATH, done="grant-ended")

    site.entries.append(Entry(PATH, N_("Connected programs"), "grants"))
    return [
        Route(PATH, site.page(show), methods=["GET"]),
        Route(f"{PATH}/{{id}}/end", site.page(end), methods=["POST"]),
    ]
