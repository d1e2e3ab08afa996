"""Signing in elsewhere: off to an outside OpenID provider, and back from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gatewaykit.builtin.auth_throttle import origin
from gatewaykit.errors import NotFound
from gatewaykit.guarding import incoming_of

from ..identity import people
from ..identity.attempts import SECONDS, Attempt, new_attempt, sealed, unsealed
from ..identity.failures import BegunElsewhere, NotAllowed, SignInFailed
from ..keys.audit import log
from ..once import spend
from ..signin import sessions
from ..signin.credentials import has_factor
from ..signin.sessions import Session
from .entering import visitor_of, welcome
from .languages import language
from .rendering import render
from .safety import IDENTITY, SESSION, cookie, drop_cookie, safe_next, set_cookie
from .site import SIGN_IN, Site, go_next, redirect, signed_in, site_of

if TYPE_CHECKING:
    from ..identity.provider import IdentityProvider

MOST, _SECONDS = 120, 60.0
"""How often in so many seconds one address, behind which there may be many people, makes us ask a provider."""

logger = logging.getLogger(__name__)


def identity_routes(site: Site) -> Sequence[Route]:
    """Their routes; none where there is no outside provider."""
    if not site.identity_providers:
        return []
    return [
        Route(f"{SIGN_IN}/with/{{name}}", site.open_page(leave), methods=["GET"]),
        Route(f"{SIGN_IN}/with/{{name}}/back", site.open_page(come_back), methods=["GET"]),
    ]


async def leave(request: Request) -> Response:
    """Send the browser to the provider; whoever is signed in already only proves it once more."""
    site, provider = site_of(request), _provider(request)
    _slow_down(request, site)
    session = await signed_in(request)
    target = safe_next(request, request.query_params.get("next"))
    attempt = new_attempt(provider.name, target, None if session is None else session.account.id)
    try:
        address = await provider.address(attempt, _redirect_uri(request, provider))
    except SignInFailed as failure:
        return _failed(request, provider, failure, target)
    response = RedirectResponse(address, 303)
    set_cookie(response, request, IDENTITY, sealed(site.desk.secrets(), attempt), site.settings, SECONDS)
    return response


async def come_back(request: Request) -> Response:
    """What the provider says becomes a session, once."""
    site, provider = site_of(request), _provider(request)
    _slow_down(request, site)
    target = None
    try:
        attempt = await _attempt(request, provider)
        target = attempt.next
        claims = await provider.claims(attempt, request.query_params, _redirect_uri(request, provider))
        session = await _entered(request, provider, attempt, claims)
    except SignInFailed as failure:
        response = _failed(request, provider, failure, target)
    else:
        if session.pending:
            response = redirect(request, "/admin/code", next=safe_next(request, target))
            set_cookie(response, request, SESSION, session.token, site.settings)
        else:
            response = welcome(request, go_next(request, target), session)
    drop_cookie(response, request, IDENTITY, site.settings)
    return response


async def _attempt(request: Request, provider: IdentityProvider) -> Attempt:
    """The attempt of this browser that the answer belongs to; from now on it was answered."""
    site, given = site_of(request), request.query_params
    kept = cookie(request, IDENTITY, site.settings)
    attempt = None if kept is None else unsealed(site.desk.secrets(), kept)
    if attempt is None or attempt.provider != provider.name or not attempt.is_answered_by(given.get("state")):
        raise BegunElsewhere("the answer belongs to no attempt of this browser")
    if len(given.multi_items()) != len(set(given)):
        raise BegunElsewhere("a parameter comes twice")
    if not await site.desk.note(lambda database: spend(database, attempt.digest, attempt.ends)):
        raise BegunElsewhere("the attempt was answered before")
    return attempt


async def _entered(
    request: Request, provider: IdentityProvider, attempt: Attempt, claims: Mapping[str, object]
) -> Session:
    """The session of whoever these claims are about. Raises :class:`~gatewaykit_oauth.identity.failures.NotAllowed`."""
    site, visitor, now = site_of(request), visitor_of(request), datetime.now(UTC)
    known = await signed_in(request)

    def enter(database: Database) -> Session:
        account = people.account_for(database, provider.name, provider.settings, claims, now)
        if attempt.account is not None:
            people.require_proved_again(claims, now)
            renewed = None
            if known is not None and known.account.id == attempt.account == account.id:
                renewed = sessions.renew(database, known, site.lives, now)
            if renewed is None:
                raise NotAllowed("whoever proved it again is not who is signed in")
            return renewed
        sessions.drop(database, visitor.token)
        session = sessions.begin(
            database,
            account,
            site.lives,
            pending=has_factor(database, account.id),
            address=visitor.client,
            agent=visitor.agent,
            now=now,
            authenticated=people.authenticated(claims, now),
        )
        actor = sessions.actor(session, visitor.request_id, visitor.client)
        log(database, actor, "session.begin", account.id, after={"identity_provider": provider.name}, now=now)
        return session

    return await site.desk.write(enter)


def _failed(request: Request, provider: IdentityProvider, failure: SignInFailed, target: str | None) -> Response:
    """The page from which somebody can try again, with the reason as far as it is theirs to know."""
    incoming, site = incoming_of(request), site_of(request)
    logger.warning("request %s: nobody signed in with %s: %s", incoming.request_id, provider.name, failure)
    problem = language(site.language_of(request)).gettext(failure.said)
    response = render(request, "sign-in.html", status=failure.status, next=target, name="", problem=problem)
    if failure.status == 503:
        response.headers["retry-after"] = "5"
    return response


def _provider(request: Request) -> IdentityProvider:
    found = site_of(request).identity_providers.get(request.path_params["name"])
    if found is None:
        raise NotFound("There is no such page.")
    return found


def _redirect_uri(request: Request, provider: IdentityProvider) -> str:
    return f"{site_of(request).base_url(request)}{SIGN_IN}/with/{provider.name}/back"


def _slow_down(request: Request, site: Site) -> None:
    """Each of these may make the gateway ask a stranger something."""
    site.pace.take(f"identity {origin(incoming_of(request).client)}", MOST, _SECONDS)
