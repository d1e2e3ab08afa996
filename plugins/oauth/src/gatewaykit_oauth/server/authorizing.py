"""``/oauth/authorize`` (RFC 6749, 4.1.1): what may be asked, and what becomes of it when somebody agrees.

A request that names no client, or a redirect URI that is not the client's, is an error of the page: nobody is sent
anywhere. All other errors go to the redirect URI, with ``state`` and ``iss`` (RFC 9207).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from gatewaykit.errors import BadRequest, NotFound

from ..keys.audit import take_turn
from ..keys.format import CODE, INTERACTION, is_secret
from ..words import N_
from .answering import description_of
from .authority import Authority
from .client_auth import find_client
from .errors import (
    AccessDeniedError,
    InvalidRequestError,
    OAuth2Error,
    UnauthorizedClientError,
    UnsupportedResponseType,
)
from .forms import Form
from .grants import Office, changed
from .model import AUTHORIZATION_CODE, Client
from .redirects import is_registered, with_parameters
from .tables import ClientRow, CodeRow, GrantRow, InteractionRow

WAITS = timedelta(minutes=10)
"""How long somebody may think about it."""

OVER = N_("This request is no longer valid. Go back to the program and start again.")
_LONGEST = 2000
_challenge = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
_thumbprint = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
_number = re.compile(r"[0-9]{1,9}").fullmatch


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be agreed to. ``max_age`` is in seconds; ``prompt`` are words of OpenID Connect."""

    client: str
    redirect_uri: str
    state: str | None
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    challenge: str
    nonce: str | None = None
    thumbprint: str | None = None
    prompt: tuple[str, ...] = ()
    max_age: int | None = None


class Refused(Exception):
    """A request that is refused, by way of the client's redirect URI."""

    def __init__(self, redirect_uri: str, state: str | None, error: OAuth2Error) -> None:
        super().__init__(error.error)
        self.redirect_uri = redirect_uri
        self.state = state
        self.error = error


async def read_request(authority: Authority, form: Form) -> tuple[Client, AuthorizationRequest]:
    """The request, checked. Raises :class:`~gatewaykit.errors.BadRequest` for the page, and :class:`Refused`."""
    if {"client_id", "redirect_uri"} & set(form.repeated):
        raise BadRequest("The request names more than one client or address.")
    client_id, redirect_uri = form.get("client_id"), form.get("redirect_uri")
    client = await find_client(authority, client_id) if client_id is not None else None
    if client is None:
        raise BadRequest("The program that sent you here is not known.")
    if redirect_uri is None or not is_registered(redirect_uri, client.redirect_uris):
        raise BadRequest("The program that sent you here gave an address that is not its own.")
    state = form.get("state")
    try:
        if form.repeated:
            state = None if "state" in form.repeated else state
            raise InvalidRequestError("A parameter is given more than once.")
        return client, _checked(authority, form, client, redirect_uri)
    except OAuth2Error as error:
        raise Refused(redirect_uri, state, error) from None


def _checked(authority: Authority, form: Form, client: Client, redirect_uri: str) -> AuthorizationRequest:
    if form.require("response_type") != "code":
        raise UnsupportedResponseType()
    if AUTHORIZATION_CODE not in client.grants:
        raise UnauthorizedClientError("The client may not use this grant type.")
    if form.get("response_mode") not in {None, "query"} or form.get("request") or form.get("request_uri"):
        raise InvalidRequestError("Only plain requests are supported, with answers in the query.")
    challenge, method = form.get("code_challenge"), form.get("code_challenge_method")
    if challenge is None or method != "S256" or not _challenge(challenge):
        raise InvalidRequestError("PKCE is required, with the method S256 (RFC 7636).")
    thumbprint, max_age, nonce = form.get("dpop_jkt"), form.get("max_age"), form.get("nonce")
    for text, is_right in ((thumbprint, _thumbprint), (max_age, _number)):
        if text is not None and not is_right(text):
            raise InvalidRequestError("A parameter is not of the right form.")
    if len(nonce or "") > _LONGEST or len(form.get("state") or "") > _LONGEST:
        raise InvalidRequestError("A parameter is too long.")
    return AuthorizationRequest(
        client=client.id,
        redirect_uri=redirect_uri,
        state=form.get("state"),
        scopes=authority.scopes.asked(form.get("scope"), client.scopes),
        resources=authority.resources.asked(form.all("resource")),
        challenge=challenge,
        nonce=nonce,
        thumbprint=thumbprint,
        prompt=tuple((form.get("prompt") or "").split()),
        max_age=int(max_age) if max_age is not None else None,
    )


# Consent


def agreed_life(
    session: Session, client: Client, asked: AuthorizationRequest, account: str, now: datetime
) -> int | None:
    """For how many seconds tokens may live by what the account agreed to last that has all of this in it; None where
    it did not, or where the program can be somebody else.

    Clients that registered themselves, and those on somebody's own machine, which any program there can pretend to be,
    are asked about each time (RFC 8252, 8.6).
    """
    if client.origin != "static" or not client.confidential:
        return None
    query = select(GrantRow).where(
        GrantRow.client == client.id,
        GrantRow.account == account,
        GrantRow.ended.is_(None),
        GrantRow.expires > now,
    )
    for grant in session.scalars(query.order_by(GrantRow.created.desc(), GrantRow.id)):
        if set(asked.scopes) <= set(grant.scopes) and set(asked.resources) <= set(grant.resources):
            return grant.access_seconds
    return None


def keep_waiting(session: Session, asked: AuthorizationRequest, account: str, office: Office) -> str:
    """Keep the request as it was checked; the text that this returns is what the consent page sends back."""
    secret = office.secrets.new(INTERACTION)
    document = msgspec.to_builtins(asked)
    row = InteractionRow(digest=secret.digest, account=account, request=document, expires=office.now + WAITS)
    session.add(row)
    return secret.text


def take_waiting(session: Session, text: str, account: str, office: Office) -> AuthorizationRequest:
    """The request that waited, once, for the account that saw it. Raises :class:`~gatewaykit.errors.NotFound`."""
    digests = office.secrets.digests(text) if is_secret(text, INTERACTION) else ()
    query = select(InteractionRow).where(
        InteractionRow.digest.in_(digests), InteractionRow.account == account, InteractionRow.expires > office.now
    )
    row = session.scalar(query)
    if row is None or not changed(session, delete(InteractionRow).where(InteractionRow.digest == row.digest)):
        raise NotFound(OVER)
    return msgspec.convert(row.request, AuthorizationRequest)


def write_code(
    session: Session,
    client: Client,
    asked: AuthorizationRequest,
    account: str,
    auth_time: datetime,
    seconds: int,
    office: Office,
) -> str:
    """A code for what was agreed to; its text is what this returns."""
    take_turn(session)
    if client.origin == "document":
        keep_document(session, client, office.now)
    secret = office.secrets.new(CODE)
    session.add(
        CodeRow(
            digest=secret.digest,
            client=client.id,
            account=account,
            redirect_uri=asked.redirect_uri,
            challenge=asked.challenge,
            scopes=list(asked.scopes),
            resources=list(asked.resources),
            access_seconds=seconds,
            thumbprint=asked.thumbprint,
            nonce=asked.nonce,
            auth_time=auth_time,
            expires=office.now + timedelta(seconds=office.settings.code_seconds),
        )
    )
    return secret.text


def keep_document(session: Session, client: Client, now: datetime) -> None:
    """A client that describes itself has a row once somebody agreed to it: then it can be switched off."""
    row = session.get(ClientRow, client.id)
    if row is None:
        row = ClientRow(
            id=client.id,
            origin="document",
            enabled=True,
            created=now,
            created_by="document",
            bound=client.bound,
            version=1,
        )
        session.add(row)
    if not row.enabled:
        raise BadRequest("The program that sent you here is switched off.")
    row.name, row.redirect_uris = client.name, list(client.redirect_uris)
    row.grants, row.scopes = list(client.grants), list(client.scopes)


# Answers


def agreed(authority: Authority, asked: AuthorizationRequest, code: str) -> Response:
    """Back to the client with the code."""
    return _sent(authority, asked.redirect_uri, asked.state, {"code": code})


def refused(authority: Authority, refusal: Refused) -> Response:
    """Back to the client with an error."""
    parameters = {"error": str(refusal.error.error)}
    if text := description_of(refusal.error):
        parameters["error_description"] = text
    return _sent(authority, refusal.redirect_uri, refusal.state, parameters)


def denied(authority: Authority, asked: AuthorizationRequest) -> Response:
    """Back to the client: somebody said no."""
    return refused(authority, Refused(asked.redirect_uri, asked.state, AccessDeniedError("The user said no.")))


def _sent(authority: Authority, uri: str, state: str | None, parameters: dict[str, str]) -> Response:
    """303, so that no browser sends its form on (RFC 9700, 4.12)."""
    given = {**parameters, **({"state": state} if state is not None else {}), "iss": authority.issuer}
    headers = {
        "location": with_parameters(uri, given),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }
    return Response(status_code=303, headers=headers)
