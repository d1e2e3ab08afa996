"""``/oauth/register`` (RFC 7591), where the operator has switched it on: clients that make themselves known.

They are public or confidential as they say, may ask for the usual scopes only, never act on their own, and are asked
about on every consent page. Those that nobody agreed to are forgotten after a day. The token that a registration gives
reads and deletes it (RFC 7592).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.builtin.auth_throttle import origin
from gatewaykit.errors import BadRequest
from gatewaykit.guarding import incoming_of, read_bytes

from ..keys.audit import record, take_turn
from ..keys.format import REGISTRATION
from ..keys.model import Actor
from . import clients
from .answering import document, endpoint, with_headers
from .assertions import METHOD
from .authority import Authority
from .challenges import HEADER
from .client_auth import METHODS
from .errors import InvalidClientMetadataError, InvalidRedirectURIError, OAuth2Error
from .model import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, GRANT_TYPES, USUAL_SCOPES, Client, ClientSpec, NewClient
from .redirects import MOST, is_safe
from .tables import ClientRow

_LONGEST = 16 * 1024
_AN_HOUR = 20
_ACTOR = "registration"


class ClientMetadata(msgspec.Struct, frozen=True):
    """What a client says of itself (RFC 7591, 2); what is not known here is ignored."""

    redirect_uris: tuple[str, ...] = ()
    client_name: str | None = None
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105 - the name of a method
    grant_types: tuple[str, ...] = (AUTHORIZATION_CODE,)
    response_types: tuple[str, ...] = ("code",)
    scope: str | None = None
    dpop_bound_access_tokens: bool = False
    jwks: dict[str, Any] | None = None


def registration_routes(authority: Authority) -> list[Route]:
    """None, unless the operator said so."""
    if not authority.settings.registration:
        return []
    registration = _Registration(authority)
    return [
        endpoint("/oauth/register", registration.create, "POST"),
        endpoint("/oauth/register/{id}", registration.manage, "GET", "DELETE"),
    ]


class _Registration:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def create(self, request: Request) -> Response:
        authority, incoming = self._authority, incoming_of(request)
        authority.running.pace.take(f"register {origin(incoming.client)}", _AN_HOUR, 3600)
        spec = read_metadata(await read_bytes(request), authority)
        actor = Actor(_ACTOR, None, incoming.request_id, incoming.client)
        secrets = authority.running.secrets
        token = secrets.new(REGISTRATION)

        def work(session: Session) -> NewClient:
            now = datetime.now(UTC)
            take_turn(session)
            return clients.create(
                session,
                actor,
                spec,
                secrets=secrets,
                settings=authority.settings,
                origin="dynamic",
                registration=token.digest,
                now=now,
            )

        made = await authority.change(work)
        answer = self._described(made.client)
        if made.secret is not None:
            answer |= {"client_secret": made.secret, "client_secret_expires_at": 0}
        return document({**answer, "registration_access_token": token.text}, 201)

    async def manage(self, request: Request) -> Response:
        """RFC 7592, 2: only with the token that the registration gave."""
        authority, client_id = self._authority, str(request.path_params["id"])
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        digests = authority.running.secrets.digests(text) if scheme.lower() == "bearer" else ()
        client = await authority.read(lambda session: _owned(session, client_id, digests))
        if client is None:
            raise _not_valid()
        if request.method == "GET":
            return document(self._described(client))
        incoming = incoming_of(request)
        actor = Actor(client.id, None, incoming.request_id, incoming.client)
        await authority.change(lambda session: _switch_off(session, actor, client))
        return Response(status_code=204, headers={"cache-control": "no-store"})

    def _described(self, client: Client) -> dict[str, Any]:
        return {
            "client_id": client.id,
            "client_id_issued_at": int(client.created.timestamp()),
            "client_name": client.name,
            "redirect_uris": list(client.redirect_uris),
            "grant_types": list(client.grants),
            "response_types": ["code"] if AUTHORIZATION_CODE in client.grants else [],
            "token_endpoint_auth_method": _method(client),
            "scope": " ".join(client.scopes),
            "dpop_bound_access_tokens": client.bound,
            "registration_client_uri": f"{self._authority.issuer}/oauth/register/{client.id}",
        }


def read_metadata(body: bytes, authority: Authority) -> ClientSpec:
    """The client that a document describes.

    Raises authlib's ``InvalidRedirectURIError`` and ``InvalidClientMetadataError`` (RFC 7591, 3.2.2).
    """
    try:
        if len(body) > _LONGEST:
            raise ValueError
        given = msgspec.json.decode(body, type=ClientMetadata)
    except (ValueError, RecursionError):
        raise InvalidClientMetadataError("The body is not client metadata.") from None
    wants_codes = AUTHORIZATION_CODE in given.grant_types
    enough = bool(given.redirect_uris) or not wants_codes
    if not enough or len(given.redirect_uris) > MOST or not all(is_safe(uri) for uri in given.redirect_uris):
        raise InvalidRedirectURIError("A redirect URI is missing or not safe.")
    if given.token_endpoint_auth_method not in METHODS or not set(given.response_types) <= {"code"}:
        raise InvalidClientMetadataError("The way to authenticate, or the response type, is not supported.")
    if (given.token_endpoint_auth_method == METHOD) != (given.jwks is not None):
        raise InvalidClientMetadataError("A client signs with keys of its own (jwks), or has none.")
    if not set(given.grant_types) <= set(GRANT_TYPES) - {CLIENT_CREDENTIALS}:
        raise InvalidClientMetadataError("A grant type is not supported.")
    spec = ClientSpec(
        name=given.client_name or "Unnamed client",
        confidential=given.token_endpoint_auth_method != METHODS[0],
        redirect_uris=given.redirect_uris,
        grants=given.grant_types,
        scopes=_scopes(given.scope),
        bound=given.dpop_bound_access_tokens,
        jwks=given.jwks,
    )
    try:
        clients.check(spec, authority.settings)
    except BadRequest:
        raise InvalidClientMetadataError("The client metadata is not valid.") from None
    return spec


def _method(client: Client) -> str:
    if client.jwks is not None:
        return METHOD
    return "client_secret_basic" if client.confidential else "none"


def _scopes(text: str | None) -> tuple[str, ...]:
    """Those asked for that a stranger may have; the answer says which (RFC 7591, 2)."""
    names = tuple(name for name in (text or "").split() if name in USUAL_SCOPES)
    return names or USUAL_SCOPES


def _owned(session: Session, client_id: str, digests: Sequence[bytes]) -> Client | None:
    row = session.get(ClientRow, client_id) if client_id.isprintable() else None
    known = row.registration if row is not None else None
    if row is None or known is None or not row.enabled:
        return None
    return clients.shown(row) if any(hmac.compare_digest(known, digest) for digest in digests) else None


def _switch_off(session: Session, actor: Actor, client: Client) -> None:
    take_turn(session)
    row = session.get(ClientRow, client.id)
    if row is not None:
        row.enabled = False
        row.registration = None
        now = datetime.now(UTC)
        record(session, actor, "client.delete", f"client:{client.id}", before=None, after=None, now=now)


def _not_valid() -> OAuth2Error:
    error = OAuth2Error("The registration token is not valid.", error="invalid_token", status_code=401)
    return with_headers(error, **{HEADER.replace("-", "_"): 'Bearer error="invalid_token"'})
