"""The pages of the authorization server: somebody agrees to what a program asks for, or says no."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

from msgspec import Struct
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gatewaykit.builtin.auth_throttle import origin
from gatewaykit.errors import BadRequest, NotFound
from gatewaykit.guarding import incoming_of, read_bytes

from ..web import Session, Site, confirm_first, form_of, render, sign_in_first, signed_in
from ..words import N_
from .authority import Authority
from .authorizing import (
    OVER,
    AuthorizationRequest,
    Refused,
    agreed,
    agreed_life,
    denied,
    keep_waiting,
    read_request,
    refused,
    take_waiting,
    write_code,
)
from .client_auth import find_client
from .devices import PAGE, Waiting, decide_device, find_device
from .errors import ConsentRequired, InvalidRequestError, LoginRequired
from .forms import Form, parse
from .grants import life
from .model import Client
from .redirects import is_loopback, origin_of

LIVES = (3600, 86_400, 30 * 86_400, 365 * 86_400)
"""Seconds among which somebody may choose, as far as the client's own time goes."""

_JUST_NOW = timedelta(seconds=60)
_TRIES, _TRY_SECONDS = 10, 600.0


class Shown(Struct, frozen=True):
    """What a consent page says of a program."""

    name: str
    host: str
    is_own_claim: bool
    is_local: bool
    back_to: str | None


class Pages:
    """All of them."""

    def __init__(self, authority: Authority, site: Site) -> None:
        self._authority = authority
        self._site = site

    def routes(self) -> list[Route]:
        """Their routes; ``/oauth/authorize`` takes the requests of other sites, the rest only forms of our own."""
        site = self._site
        return [
            Route("/oauth/authorize", site.open_page(self._authorize, checked=False), methods=["GET", "POST"]),
            Route("/oauth/consent", site.page(self._consent), methods=["GET", "POST"]),
            Route(PAGE, site.page(self._device), methods=["GET"]),
            Route(f"{PAGE}/confirm", site.sent_page(self._confirm_device, PAGE), methods=["GET", "POST"]),
        ]

    async def _authorize(self, request: Request) -> Response:
        authority = self._authority
        if request.method == "POST":
            return await _again_by_get(request)
        try:
            client, asked = await read_request(authority, _query(request))
            session = await signed_in(request)
            if session is None and "none" in asked.prompt:
                raise Refused(asked.redirect_uri, asked.state, LoginRequired())
            if session is None:
                return sign_in_first(request)
            if _is_too_old(asked, session, datetime.now(UTC)):
                if "none" in asked.prompt:
                    raise Refused(asked.redirect_uri, asked.state, LoginRequired())
                return confirm_first(request)
            return await self._ask(request, client, asked, session)
        except Refused as refusal:
            return refused(authority, refusal)

    async def _ask(self, request: Request, client: Client, asked: AuthorizationRequest, session: Session) -> Response:
        """The consent page; what was agreed to before needs no new word, where that is safe."""
        authority, account = self._authority, session.account.id
        _, office = await authority.office()
        agreed_to = await authority.read(lambda database: agreed_life(database, client, asked, account, office.now))
        if agreed_to is not None and "consent" not in asked.prompt:
            return await self._send_code(client, asked, session, min(agreed_to, self._longest(client, session)))
        if "none" in asked.prompt:
            raise Refused(asked.redirect_uri, asked.state, ConsentRequired())
        waiting = await authority.write(lambda database: keep_waiting(database, asked, account, office))
        return render(
            request,
            "oauth/consent.html",
            form_action=[origin_of(asked.redirect_uri)],
            program=_shown(client, asked.redirect_uri),
            scopes=self._described(asked.scopes),
            resources=asked.resources,
            lives=self._lives(self._longest(client, session)),
            waiting=waiting,
        )

    async def _consent(self, request: Request, session: Session) -> Response:
        if request.method != "POST":
            raise NotFound(OVER)
        authority, form, account = self._authority, await form_of(request), session.account.id
        _, office = await authority.office()
        text = form.text("waiting")
        asked = await authority.write(lambda database: take_waiting(database, text, account, office))
        client = await find_client(authority, asked.client)
        if client is None:
            raise BadRequest("The program that sent you here is not known.")
        if form.text("decision") != "allow":
            return denied(authority, asked)
        return await self._send_code(
            client, asked, session, _chosen(form.text("seconds"), self._longest(client, session))
        )

    async def _send_code(self, client: Client, asked: AuthorizationRequest, session: Session, seconds: int) -> Response:
        authority, account, since = self._authority, session.account.id, session.authenticated
        _, office = await authority.office()
        code = await authority.write(
            lambda database: write_code(database, client, asked, account, since, seconds, office)
        )
        return agreed(authority, asked, code)

    # Devices

    async def _device(self, request: Request, session: Session) -> Response:
        """A code is typed, or comes with the link; either way it is shown before anything is agreed to."""
        typed = request.query_params.get("user_code", "")
        if not typed:
            return render(request, "oauth/device.html", problem=None, typed="")
        try:
            waiting, client = await self._waiting(request, session, typed)
        except NotFound:
            return render(request, "oauth/device.html", status=404, problem=UNKNOWN_CODE, typed=typed[:20])
        return render(
            request,
            "oauth/device-consent.html",
            program=_shown(client, None),
            scopes=self._described(waiting.scopes),
            resources=waiting.resources,
            lives=self._lives(self._longest(client, session)),
            typed=typed,
        )

    async def _confirm_device(self, request: Request, session: Session) -> Response:
        form, account, since = await form_of(request), session.account.id, session.authenticated
        waiting, client = await self._waiting(request, session, form.text("user_code"))
        allow = form.text("decision") == "allow"
        seconds = _chosen(form.text("seconds"), self._longest(client, session))

        def work(database: Database) -> bool:
            now = datetime.now(UTC)
            return decide_device(database, waiting, client, account, since, allow=allow, seconds=seconds, now=now)

        if not await self._authority.write(work):
            raise NotFound(UNKNOWN_CODE)
        return render(request, "oauth/device-done.html", allowed=allow)

    async def _waiting(self, request: Request, session: Session, typed: str) -> tuple[Waiting, Client]:
        """The device of a code. Whoever guesses has to wait after some tries (RFC 8628, 5.1)."""
        authority, pace = self._authority, self._authority.running.pace
        for subject in (f"code {session.account.id}", f"code {origin(incoming_of(request).client)}"):
            pace.take(subject, _TRIES, _TRY_SECONDS)
        _, office = await authority.office()
        waiting = await authority.read(lambda database: find_device(database, typed[:40], office))
        client = await find_client(authority, waiting.client)
        if client is None:
            raise NotFound(UNKNOWN_CODE)
        return waiting, client

    # What is shown

    def _described(self, scopes: tuple[str, ...]) -> list[tuple[str, str]]:
        return [(name, self._authority.scopes.describe(name)) for name in scopes]

    def _longest(self, client: Client, session: Session) -> int:
        return life(client, self._authority.settings, session.account.longest_access_seconds)

    def _lives(self, longest: int) -> list[int]:
        """What can be chosen, the client's own time last."""
        return [*(seconds for seconds in LIVES if seconds < longest), longest]


UNKNOWN_CODE = N_("This code is not known, or no longer valid.")
TEXTS = (
    N_("The program that sent you here is not known."),
    N_("The program that sent you here gave an address that is not its own."),
    N_("The program that sent you here is switched off."),
    N_("The request names more than one client or address."),
    N_("Use models on your behalf"),
    N_("Read what you have used"),
    N_("Manage your API keys"),
    N_("Manage the whole gateway"),
    N_("Know who you are"),
    N_("Know your name"),
    N_("Stay connected while you are away"),
)
"""Words of other modules that the pages show."""


def _query(request: Request) -> Form:
    try:
        return parse(request.scope.get("query_string", b""))
    except InvalidRequestError:
        raise BadRequest("This request cannot be read.") from None


async def _again_by_get(request: Request) -> Response:
    """A request that came as a form of another site is made with GET: only then does a browser send its session."""
    try:
        form = parse(await read_bytes(request))
    except InvalidRequestError:
        raise BadRequest("This request cannot be read.") from None
    return RedirectResponse(f"{request.url.path}?{urlencode(form.pairs)}", 303)


def _is_too_old(asked: AuthorizationRequest, session: Session, now: datetime) -> bool:
    """Whether the password has to be given again (OpenID Connect Core 1.0, 3.1.2.1)."""
    since = now - session.authenticated
    if "login" in asked.prompt and since > _JUST_NOW:
        return True
    return asked.max_age is not None and since > max(timedelta(seconds=asked.max_age), _JUST_NOW)


def _chosen(text: str, longest: int) -> int:
    return min(int(text), longest) if text.isascii() and text.isdecimal() and 0 < len(text) < 10 else longest


def _shown(client: Client, redirect_uri: str | None) -> Shown:
    """A name that a client gave itself is worth little: the hosts are what tells it from another."""
    described = client.origin == "document"
    back_to = None if redirect_uri is None else urlsplit(redirect_uri).netloc or f"{urlsplit(redirect_uri).scheme}:"
    return Shown(
        name=client.name,
        host=str(urlsplit(client.id).hostname) if described else client.id,
        is_own_claim=client.origin != "static",
        is_local=redirect_uri is not None and is_loopback(redirect_uri),
        back_to=back_to,
    )
