"""``/admin/grants``: which programs may act for somebody, and how that, or one token, is taken back. Admins see all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import NotFound
from gatewaykit.guarding import read_query

from ..keys.api_base import Cursor, Text, named
from ..keys.audit import take_turn
from ..keys.model import Page
from ..web import Session, Site, acting, redirect, render
from ..web.rendering import Entry
from ..words import N_
from .authority import Authority
from .grants import end_grant, revoke_access_token
from .listing import find_grants, find_tokens, get_grant, get_token
from .model import AccessToken, Grant

PATH = "/admin/grants"
ON_A_PAGE = 50


class GrantsQuery(Struct, frozen=True):
    """Which part of the list; ``done`` is what led here."""

    client: Text = ""
    after: Cursor | None = None
    done: str = ""


class TokensQuery(Struct, frozen=True):
    """Which part of a grant's tokens."""

    after: Cursor | None = None
    done: str = ""


def grant_routes(authority: Authority, site: Site) -> list[Route]:
    """The list, one grant with its tokens, and the buttons that end them."""
    desk = _Desk(authority)
    site.entries.append(Entry(PATH, N_("Connected programs"), "grants"))
    return [
        Route(PATH, site.page(desk.show_all), methods=["GET"]),
        Route(f"{PATH}/{{id}}", site.page(desk.show), methods=["GET"]),
        Route(f"{PATH}/{{id}}/end", site.sent_page(desk.end, f"{PATH}/{{id}}"), methods=["GET", "POST"]),
        Route("/admin/tokens/{id}/revoke", site.sent_page(desk.revoke, PATH), methods=["GET", "POST"]),
    ]


class _Desk:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def show_all(self, request: Request, session: Session) -> Response:
        """What is in force, the newest first."""
        query, now = read_query(request, GrantsQuery), datetime.now(UTC)
        account = None if session.is_admin else session.account.id
        client = query.client or None
        found = await self._authority.read(
            lambda database: find_grants(
                database, now=now, account=account, client=client, active=True, after=query.after, limit=ON_A_PAGE
            )
        )
        own = [grant for grant in found.items if session.is_admin or grant.account == account]
        return render(request, "oauth/grants.html", grants=own, following=found.next, query=query)

    async def show(self, request: Request, session: Session) -> Response:
        """What was allowed, and the access tokens that came of it and have not expired."""
        query, grant_id, now = read_query(request, TokensQuery), named(request, "id"), datetime.now(UTC)

        def read(database: Database) -> tuple[Grant, Page[AccessToken]]:
            grant = get_grant(database, grant_id, now)
            _require_own(session, grant.account)
            return grant, find_tokens(database, now=now, grant=grant_id, after=query.after, limit=ON_A_PAGE)

        grant, found = await self._authority.read(read)
        tokens: Sequence[AccessToken] = found.items
        return render(request, "oauth/grant.html", grant=grant, tokens=tokens, following=found.next, after=query.after)

    async def end(self, request: Request, session: Session) -> Response:
        """The end of a grant with all that it gave."""
        grant_id, actor = named(request, "id"), acting(request, session)

        def work(database: Database) -> None:
            take_turn(database)
            now = datetime.now(UTC)
            _require_own(session, get_grant(database, grant_id, now).account)
            end_grant(database, actor, grant_id, "it was withdrawn", now)

        await self._authority.change(work)
        return redirect(request, PATH, done="grant-ended")

    async def revoke(self, request: Request, session: Session) -> Response:
        """The end of one access token; the program may still get another."""
        jti, actor = named(request, "id"), acting(request, session)

        def work(database: Database) -> str:
            take_turn(database)
            token = get_token(database, jti)
            _require_own(session, token.account)
            revoke_access_token(database, actor, jti, datetime.now(UTC))
            return token.grant

        grant_id = await self._authority.change(work)
        return redirect(request, f"{PATH}/{grant_id}", done="token-revoked")


def _require_own(session: Session, account: str | None) -> None:
    if not session.is_admin and account != session.account.id:
        raise NotFound("There is nothing of this name.")
