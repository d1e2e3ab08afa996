"""``/oauth/revoke`` (RFC 7009) and ``/oauth/introspect`` (RFC 7662): ending a token, and asking what one is worth."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.guarding import incoming_of

from ..keys.audit import take_turn
from ..keys.format import REFRESH, is_secret
from ..keys.model import Actor
from .access_tokens import Verified
from .answering import document
from .authority import Authority
from .client_auth import authenticated
from .errors import invalid_client
from .forms import read_form
from .grants import end_grant, revoke_access_token, usable
from .model import Client
from .tables import AccessTokenRow, GrantRow, RefreshTokenRow

_LONGEST = 8192
_NOT_ACTIVE: dict[str, Any] = {"active": False}
_A_MINUTE = 600


class Endings:
    """Both endpoints."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def revoke(self, request: Request) -> Response:
        """200 for every token, whatever it is worth; a token of another client stays as it is.

        When the answer is sent, no process that hears of changes accepts the token any more.
        """
        authority, form = self._authority, await read_form(request)
        text = form.require("token")
        client = await authenticated(authority, request, form)
        incoming = incoming_of(request)
        actor = Actor(client.id, None, incoming.request_id, incoming.client)
        if is_secret(text, REFRESH):
            digests = authority.running.secrets.digests(text)
            await authority.change(lambda session: _revoke_family(session, actor, client, digests))
        elif (verified := await self._token(text)) is not None:
            await authority.change(lambda session: _revoke_token(session, actor, client, verified))
        return Response(status_code=200, headers={"cache-control": "no-store", "pragma": "no-cache"})

    async def introspect(self, request: Request) -> Response:
        """What a token is worth, for confidential clients and their own tokens. The one resource there is, the gateway,
        asks nobody.

        Everything else is ``{"active": false}``, without a word of why.
        """
        authority, form = self._authority, await read_form(request)
        text = form.require("token")
        client = await authenticated(authority, request, form)
        if not client.confidential:
            raise invalid_client()
        authority.running.pace.take(f"introspect {client.id}", _A_MINUTE, 60)
        if is_secret(text, REFRESH):
            digests = authority.running.secrets.digests(text)
            return document(await authority.read(lambda session: _refresh_worth(session, client, digests)))
        return document(await self._worth(text, client))

    async def _worth(self, text: str, client: Client) -> dict[str, Any]:
        verified = await self._token(text)
        entry = await self._authority.known(text) if verified is not None else None
        if verified is None or entry is None or entry.client != client.id or time.time() >= entry.ends:
            return _NOT_ACTIVE
        claims = verified.claims
        worth: dict[str, Any] = {
            "active": True,
            "scope": claims.scope,
            "client_id": claims.client_id,
            "token_type": "Bearer" if verified.thumbprint is None else "DPoP",
            "exp": claims.exp,
            "iat": claims.iat,
            "sub": claims.sub,
            "aud": claims.aud,
            "iss": claims.iss,
            "jti": claims.jti,
        }
        return worth if verified.thumbprint is None else {**worth, "cnf": claims.cnf}

    async def _token(self, text: str) -> Verified | None:
        return await self._authority.verified(text) if len(text) <= _LONGEST else None


def _revoke_family(session: Session, actor: Actor, client: Client, digests: tuple[bytes, ...]) -> None:
    take_turn(session)
    row = session.scalar(select(RefreshTokenRow).where(RefreshTokenRow.digest.in_(digests)))
    grant = session.get(GrantRow, row.grant) if row is not None else None
    if grant is not None and grant.client == client.id:
        end_grant(session, actor, grant.id, "the client revoked it", datetime.now(UTC))


def _revoke_token(session: Session, actor: Actor, client: Client, verified: Verified) -> None:
    take_turn(session)
    row = session.get(AccessTokenRow, verified.jti)
    grant = session.get(GrantRow, row.grant) if row is not None else None
    if row is not None and grant is not None and grant.client == client.id:
        revoke_access_token(session, actor, row.jti, datetime.now(UTC))


def _refresh_worth(session: Session, client: Client, digests: tuple[bytes, ...]) -> dict[str, Any]:
    now = datetime.now(UTC)
    row = session.scalar(select(RefreshTokenRow).where(RefreshTokenRow.digest.in_(digests)))
    grant = session.get(GrantRow, row.grant) if row is not None else None
    if row is None or grant is None or grant.client != client.id or row.used is not None or row.expires <= now:
        return _NOT_ACTIVE
    if usable(session, grant, row.issued, now) is None:
        return _NOT_ACTIVE
    return {
        "active": True,
        "scope": " ".join(grant.scopes),
        "client_id": grant.client,
        "exp": int(row.expires.timestamp()),
        "iat": int(row.issued.timestamp()),
        "sub": grant.account,
    }
