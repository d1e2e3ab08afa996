"""The site: what all pages share, and the frame around each of them, in which it is decided who sees what."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from msgspec import structs
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatewaykit.errors import ClientGone, GatewayError, InternalError, NotFound, PermissionDenied
from gatewaykit.guarding import incoming_of
from gatewaykit.protocols import GatewayContext

from ..faults import Fault, Refusal
from ..keys.api_base import Desk, limits_at
from ..keys.model import Actor
from ..server.pace import Pace
from ..server.settings import OAuthSettings
from ..settings import AdminSettings
from ..signin import sessions
from ..signin.passwords import Passwords
from ..signin.sessions import Lives, Session
from ..words import N_
from .forms import believed_form
from .languages import LANGUAGES, language, preferred
from .live.samples import Samples
from .models import Models
from .rendering import SESSION, SITE, THEMES, Entry, prepare, render
from .safety import (
    LANGUAGE,
    THEME,
    cookie,
    is_secure,
    keep_visit,
    require_secure,
    safe_next,
    secure_headers,
)
from .safety import SESSION as SESSION_COOKIE

if TYPE_CHECKING:
    from ..identity.provider import IdentityProvider

OpenPage = Callable[[Request], Awaitable[Response]]
Page = Callable[[Request, Session], Awaitable[Response]]
SIGN_IN = "/admin/sign-in"
_sites: WeakKeyDictionary[GatewayContext, Site]
_READING = {"GET", "HEAD"}
_POLLED = "gatewaykit_oauth.polled"
logger = logging.getLogger(__name__)


class Site:
    """What all pages share. There is one for a gateway: :meth:`of`."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.settings = desk.gateway.settings.get(AdminSettings)
        self.lives = Lives(
            timedelta(seconds=self.settings.session_idle), timedelta(seconds=self.settings.session_absolute)
        )
        self.passwords = Passwords()
        self.models = Models(desk.gateway.providers)
        self.identity_providers = identity_providers(desk.gateway.settings.get(OAuthSettings))
        self.pace = Pace()
        self.entries: list[Entry] = []
        self.samples = Samples()
        self._prepared = False
        _sites[desk.gateway] = self

    @classmethod
    def of(cls, gateway: GatewayContext) -> Site | None:
        """The site of this gateway; None where pages are off, or there is no database to keep people in."""
        return _sites.get(gateway)

    # Pages

    def open_page(self, endpoint: OpenPage, *, checked: bool = True) -> OpenPage:
        """A Starlette endpoint that everybody reaches, signed in or not.

        Its errors become pages. A form that did not come from a page of ours is refused, unless ``checked`` is False:
        then the endpoint looks itself, with :func:`~gatewaykit_oauth.web.forms.believed_form`.
        """

        async def answered(request: Request) -> Response:
            request.scope[SITE] = self
            incoming = incoming_of(request)
            try:
                require_secure(request, self.settings)
                await self._prepare()
                if checked and request.method not in _READING:
                    await believed_form(request, self.settings)
                response = await endpoint(request)
            except GatewayError as error:
                if error.status >= 500:
                    logger.warning("request %s: %s", incoming.request_id, error)
                response = await self._error_page(request, error)
            except Exception as error:
                logger.error("request %s failed", incoming.request_id, exc_info=error)
                response = await self._error_page(request, InternalError())
            secure_headers(response)
            keep_visit(response, request, self.settings)
            response.headers["x-request-id"] = incoming.request_id
            return response

        return answered

    def page(self, endpoint: Page, *, admin: bool = False, fresh: bool = False, polled: bool = False) -> OpenPage:
        """A Starlette endpoint for those who are signed in; others sign in first, and then come back.

        ``admin``: for admins only; to others the page does not exist. ``fresh``: the password must have been given
        lately, and is asked for again where it was not. ``polled``: the page's script asks again and again, which is
        no sign that somebody is there: the session ends as if it did not.
        """

        async def inner(request: Request) -> Response:
            request.scope[_POLLED] = polled and request.headers.get("hx-request") == "true"
            session = await signed_in(request)
            if session is None:
                return sign_in_first(request)
            if admin and not session.is_admin:
                raise NotFound("There is no such page.")
            if fresh and not session.is_fresh(datetime.now(UTC), self._freshness(request)):
                return confirm_first(request)
            return await endpoint(request, session)

        return self.open_page(inner)

    def sent_page(self, endpoint: Page, where: str, *, admin: bool = False, fresh: bool = False) -> OpenPage:
        """The same for an address to which forms are sent and which shows nothing by itself. Whoever opens it, as
        browsers do after a sign-in or from their address bar, is led to ``where``, the page with the form; names of the
        path may stand in it.
        """

        async def inner(request: Request, session: Session) -> Response:
            if request.method in _READING:
                root = request.scope.get("root_path", "")
                return _sent(request, _with_query(request, root + where.format(**request.path_params)))
            return await endpoint(request, session)

        return self.page(inner, admin=admin, fresh=fresh)

    def _freshness(self, request: Request) -> timedelta:
        """How old a password may be. Less where a form is opened, so that there is time to fill it in."""
        longest = timedelta(seconds=self.settings.fresh)
        return longest * 3 / 4 if request.method in _READING else longest

    async def _prepare(self) -> None:
        if not self._prepared:
            await asyncio.to_thread(prepare)
            self._prepared = True

    async def _error_page(self, request: Request, error: GatewayError) -> Response:
        if isinstance(error, ClientGone):
            raise error
        await self._prepare()
        if error.status < 500 and not isinstance(error, PermissionDenied):
            await _known(request)
        response = render(request, "error.html", status=error.status, error=error, said=said(request, error))
        if error.retry_after is not None:
            response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        return response

    # What a browser wants

    def language_of(self, request: Request) -> str:
        """The code of the language to answer in."""
        return preferred(cookie(request, LANGUAGE, self.settings), request.headers.get("accept-language"))

    def theme_of(self, request: Request) -> str:
        """Light, dark, or what the system has."""
        chosen = cookie(request, THEME, self.settings)
        return chosen if chosen in THEMES else "auto"

    def base_url(self, request: Request) -> str:
        """Where browsers find the gateway, without a slash at the end."""
        root = request.scope.get("root_path", "")
        if self.settings.base_url is not None:
            return f"{self.settings.base_url}{root}"
        scheme = "https" if is_secure(request, self.settings) else "http"
        return f"{scheme}://{request.url.netloc}{root}"


_sites = WeakKeyDictionary()


def identity_providers(settings: OAuthSettings) -> Mapping[str, IdentityProvider]:
    """The outside providers through which people sign in, by name; what asks them is imported where there are some."""
    if not settings.identity_providers:
        return {}
    from ..identity.provider import IdentityProvider

    return {name: IdentityProvider(name, one) for name, one in settings.identity_providers.items()}


def site_of(request: Request) -> Site:
    """The site of a page that is being answered."""
    site: Site = request.scope[SITE]
    return site


def is_polled(request: Request) -> bool:
    """Whether a script asks, by itself."""
    return bool(request.scope.get(_POLLED))


async def signed_in(request: Request) -> Session | None:
    """Who is signed in at this browser. For endpoints of :meth:`Site.page` and :meth:`Site.open_page`."""
    if SESSION in request.scope:
        known: Session | None = request.scope[SESSION]
        return known
    site, now = site_of(request), datetime.now(UTC)
    token = cookie(request, SESSION_COOKIE, site.settings)
    session = None
    if token is not None:
        session = await site.desk.read(lambda database: sessions.find(database, token, site.lives, now))
    if session is not None and session.pending:
        session = None
    elif session is not None and not is_polled(request) and sessions.is_due(session, now):
        known, client = session, incoming_of(request).client
        await site.desk.note(lambda database: sessions.touch(database, known, client, now))
    request.scope[SESSION] = session
    return session


async def _known(request: Request) -> None:
    """For an error's page, which shows the navigation where that can be had."""
    try:
        await signed_in(request)
    except GatewayError:
        request.scope[SESSION] = None


def acting(request: Request, session: Session) -> Actor:
    """Who acts, as services and the audit log want it."""
    incoming = incoming_of(request)
    actor = sessions.actor(session, incoming.request_id, incoming.client)
    if session.is_admin:
        return actor
    return structs.replace(actor, under=limits_at(site_of(request).desk.gateway))


# Going elsewhere


def redirect(request: Request, path: str, **query: str) -> Response:
    """Go to a page of ours (303: with GET, whatever this request was)."""
    root = request.scope.get("root_path", "")
    return _sent(request, f"{root}{path}" + (f"?{urlencode(query)}" if query else ""))


def sign_in_first(request: Request) -> Response:
    """Sign in, then come back here; a form that was sent is not sent again."""
    return redirect(request, SIGN_IN, **_later(request))


def confirm_first(request: Request) -> Response:
    """Give the password again, then come back here."""
    return redirect(request, "/admin/confirm", **_later(request))


def go_next(request: Request, target: str | None) -> Response:
    """Go where somebody was on the way to."""
    return _sent(request, safe_next(request, target))


def _sent(request: Request, url: str) -> Response:
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers={"hx-redirect": url})
    return RedirectResponse(url, 303)


def _later(request: Request) -> dict[str, str]:
    """Where to go afterwards, and whether a form has to be filled in once more then."""
    back = {"next": _with_query(request, request.url.path)}
    return back if request.method in _READING else back | {"unsent": "yes"}


def _with_query(request: Request, path: str) -> str:
    return f"{path}?{request.url.query}" if request.url.query else path


def said(request: Request, error: GatewayError) -> str:
    """The message of an error, in the language of the browser."""
    chosen, message = language(site_of(request).language_of(request)), error.message
    if isinstance(error, PermissionDenied) and error.param:
        return chosen.gettext(_TOO_MUCH)
    if isinstance(error, Fault | Refusal):
        return chosen.filled(error.words)
    if chosen.knows(message):
        return chosen.gettext(message)
    return chosen.gettext(_GENERAL.get(error.status, _GENERAL[500]))


def refused(request: Request, error: GatewayError | None) -> dict[str, Any]:
    """For :func:`render`: the status of a form's page, what is wrong and with which field, if anything is."""
    if error is None:
        return {"status": 200, "problem": None, "param": ""}
    return {"status": error.status, "problem": said(request, error), "param": error.param or ""}


_TOO_MUCH = N_("A key cannot allow more than whoever makes it may do.")
_GENERAL = {
    400: N_("Something in this form is not valid."),
    403: N_("This is not allowed."),
    404: N_("There is nothing here."),
    408: N_("The request did not arrive in time."),
    413: N_("This is more than can be taken."),
    429: N_("Too many attempts. Wait a moment, then try again."),
    500: N_("Something went wrong here. Try again."),
    503: N_("The gateway cannot do this now. Try again in a moment."),
}
__all__ = [
    "LANGUAGES",
    "Site",
    "acting",
    "confirm_first",
    "go_next",
    "redirect",
    "said",
    "sign_in_first",
    "signed_in",
    "site_of",
]
