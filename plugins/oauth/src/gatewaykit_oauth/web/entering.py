"""Signing in and out, choosing a password by a setup link, and proving again who is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import AuthFailed, BadRequest, GatewayError, RateLimited
from gatewaykit.guarding import incoming_of

from ..accounts import get_account
from ..keys.model import Account
from ..signin import links, sessions
from ..signin.entrance import Entrance, Visitor
from ..signin.sessions import Session
from .forms import form_of
from .languages import LANGUAGES
from .rendering import THEMES, render
from .safety import (
    BROWSER,
    HALF_A_YEAR,
    LANGUAGE,
    SESSION,
    THEME,
    VISIT,
    cookie,
    drop_cookie,
    safe_next,
    set_cookie,
)
from .site import SIGN_IN, Site, go_next, redirect, said, signed_in, site_of


def entering_routes(site: Site) -> Sequence[Route]:
    """Their routes."""
    both = ["GET", "POST"]
    return [
        Route(SIGN_IN, site.open_page(sign_in), methods=both),
        Route("/admin/code", site.open_page(second_factor), methods=both),
        Route("/admin/confirm", site.page(confirm), methods=both),
        Route("/admin/sign-out", site.open_page(sign_out), methods=both),
        Route("/admin/setup/{token}", site.open_page(setup), methods=both),
        Route("/admin/preferences", site.open_page(preferences), methods=both),
    ]


async def sign_in(request: Request) -> Response:
    """Name and password."""
    target = request.query_params.get("next")
    if request.method != "POST":
        if await signed_in(request) is not None:
            return go_next(request, target)
        return render(request, "sign-in.html", next=target, name="", problem=None)
    form = await form_of(request)
    try:
        session = await entrance_of(request).enter(form.text("name"), form.raw("password"), visitor_of(request))
    except (AuthFailed, RateLimited, BadRequest) as error:
        values: dict[str, Any] = {"next": target, "name": form.text("name"), "problem": said(request, error)}
        return _again(render(request, "sign-in.html", status=_status(error), **values), error)
    if session.pending:
        response = redirect(request, "/admin/code", next=safe_next(request, target))
        set_cookie(response, request, SESSION, session.token, site_of(request).settings)
        return response
    return welcome(request, go_next(request, target), session)


async def second_factor(request: Request) -> Response:
    """The code of an app, or a recovery code."""
    site, target = site_of(request), request.query_params.get("next")
    token = cookie(request, SESSION, site.settings) or ""
    now = datetime.now(UTC)
    found = await site.desk.read(lambda database: sessions.find(database, token, site.lives, now))
    if found is None or not found.pending:
        return redirect(request, SIGN_IN, next=safe_next(request, target))
    if request.method != "POST":
        return render(request, "code.html", next=target, problem=None)
    form = await form_of(request)
    try:
        session = await entrance_of(request).pass_factor(token, form.text("code"), visitor_of(request))
    except (AuthFailed, RateLimited) as error:
        page = render(request, "code.html", status=_status(error), next=target, problem=said(request, error))
        return _again(page, error)
    return welcome(request, go_next(request, target), session)


async def confirm(request: Request, session: Session) -> Response:
    """The password again, before what matters most."""
    target = request.query_params.get("next")
    if request.method != "POST":
        return render(request, "confirm.html", next=target, problem=None)
    form = await form_of(request)
    try:
        renewed = await entrance_of(request).confirm(session, form.raw("password"), visitor_of(request))
    except (AuthFailed, RateLimited, BadRequest) as error:
        page = render(request, "confirm.html", status=_status(error), next=target, problem=said(request, error))
        return _again(page, error)
    return welcome(request, go_next(request, target), renewed)


async def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    if request.method != "POST":
        return redirect(request, "/admin/")
    site = site_of(request)
    token = cookie(request, SESSION, site.settings)
    await site.desk.note(lambda database: sessions.drop(database, token))
    response = redirect(request, SIGN_IN, done="signed-out")
    drop_cookie(response, request, SESSION, site.settings)
    response.headers["clear-site-data"] = '"cache"'
    return response


async def setup(request: Request) -> Response:
    """Choose a password, and with the first link of all a name."""
    site, token = site_of(request), request.path_params["token"]
    now = datetime.now(UTC)

    def look(database: Database) -> Account | None:
        links.require_linked(database, token, now)
        row = links.linked(database, token, now)
        return None if row is None or row.account is None else get_account(database, row.account)

    known = await site.desk.read(look)
    if request.method != "POST":
        return render(request, "setup.html", known=known, name="", problem=None, field=None)
    form = await form_of(request)
    name = known.id if known is not None else form.text("name")
    try:
        if form.raw("password") != form.raw("again"):
            raise BadRequest("The two passwords are not the same.", param="again")
        wanted = known or Account(id=name, role="admin")
        account = await entrance_of(request).follow_link(token, wanted, form.raw("password"))
    except BadRequest as error:
        values: dict[str, Any] = {"known": known, "name": name, "problem": said(request, error), "field": error.param}
        return render(request, "setup.html", status=error.status, **values)
    session = await entrance_of(request).enter(account.id, form.raw("password"), visitor_of(request))
    return welcome(request, redirect(request, "/admin/"), session)


async def preferences(request: Request) -> Response:
    """Language and colours, which the browser keeps."""
    if request.method != "POST":
        return redirect(request, "/admin/")
    form, settings = await form_of(request), site_of(request).settings
    response = go_next(request, form.text("next"))
    if (chosen := form.text("language")) in LANGUAGES:
        set_cookie(response, request, LANGUAGE, chosen, settings, HALF_A_YEAR)
    if (theme := form.text("theme")) in THEMES:
        set_cookie(response, request, THEME, theme, settings, HALF_A_YEAR)
    return response


# What these pages share


def entrance_of(request: Request) -> Entrance:
    """The way in, of this site."""
    site = site_of(request)
    return Entrance(site.desk, site.passwords, site.lives)


def visitor_of(request: Request) -> Visitor:
    """Who wants in."""
    incoming, settings = incoming_of(request), site_of(request).settings
    return Visitor(
        client=incoming.client,
        agent=incoming.headers.get("user-agent", ""),
        request_id=incoming.request_id,
        browser=cookie(request, BROWSER, settings),
        token=cookie(request, SESSION, settings),
    )


def welcome(request: Request, response: Response, session: Session) -> Response:
    """``response`` with the cookies of somebody who has just proved who it is."""
    settings = site_of(request).settings
    mark = entrance_of(request).browser_mark(session.account.id, cookie(request, BROWSER, settings))
    set_cookie(response, request, SESSION, session.token, settings)
    set_cookie(response, request, BROWSER, mark, settings, HALF_A_YEAR)
    drop_cookie(response, request, VISIT, settings)
    return response


def _status(error: GatewayError) -> int:
    return 400 if isinstance(error, AuthFailed) else error.status


def _again(response: Response, error: GatewayError) -> Response:
    if error.retry_after is not None:
        response.headers["retry-after"] = str(int(error.retry_after) + 1)
    return response
