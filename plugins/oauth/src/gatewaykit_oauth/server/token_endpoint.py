"""``/oauth/token`` (RFC 6749, 3.2): codes, refresh tokens, client credentials and device codes become access tokens."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.guarding import incoming_of

from ..keys.audit import take_turn
from ..keys.format import CODE, REFRESH, is_secret
from ..keys.model import Actor
from ..once import spend
from . import proofs
from .access_tokens import identity, sign
from .answering import document, with_headers
from .authority import Authority
from .client_auth import authenticated
from .devices import redeem_device
from .errors import InvalidProof, InvalidRequestError, InvalidScopeError, UnsupportedGrantType, UseNonce, invalid_grant
from .forms import Form, read_form
from .grants import Office, Wanted, end_grant, issue, life, open_grant, usable
from .model import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN, Client, Issued
from .redeeming import Presented, Reused, redeem_code, refresh
from .scopes import OPENID
from .signing_keys import Signer
from .tables import ClientRow, GrantRow

_verifier = re.compile(r"[A-Za-z0-9._~-]{43,128}").fullmatch
Narrow = Callable[[Sequence[str], Sequence[str]], tuple[tuple[str, ...], tuple[str, ...]]]


class TokenEndpoint:
    """Answers token requests."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._grants: dict[str, Callable[[_Asked], Awaitable[Issued]]] = {
            AUTHORIZATION_CODE: self._code,
            REFRESH_TOKEN: self._refresh,
            CLIENT_CREDENTIALS: self._credentials,
            DEVICE_CODE: self._device,
        }

    async def __call__(self, request: Request) -> Response:
        """The tokens, or an error of RFC 6749, 5.2."""
        form = await read_form(request)
        kind = form.require("grant_type")
        if kind not in self._grants:
            raise UnsupportedGrantType()
        client = await authenticated(self._authority, request, form, kind)
        thumbprint = await self._thumbprint(request, client)
        signer, office = await self._authority.office()
        incoming = incoming_of(request)
        actor = Actor(client.id, None, incoming.request_id, incoming.client)
        issued = await self._grants[kind](_Asked(form, client, thumbprint, office, actor))
        text = sign(signer, self._authority.issuer, issued)
        await self._authority.given_out(text)
        return document(self._answer(signer, issued, text))

    def _answer(self, signer: Signer, issued: Issued, text: str) -> dict[str, Any]:
        """RFC 6749, 5.1; ``expires_in`` is what the token itself says."""
        answer: dict[str, Any] = {
            "access_token": text,
            "token_type": "Bearer" if issued.thumbprint is None else "DPoP",
            "expires_in": issued.expires - issued.issued,
            "scope": " ".join(issued.scopes),
        }
        if issued.refresh_token is not None:
            answer["refresh_token"] = issued.refresh_token
        if OPENID in issued.scopes and issued.account is not None:
            answer["id_token"] = identity(signer, self._authority.issuer, issued, text)
        return answer

    async def _code(self, asked: _Asked) -> Issued:
        form = asked.form
        code, verifier = form.require("code"), form.get("code_verifier")
        if verifier is None or not is_secret(code, CODE):
            raise invalid_grant()
        if not _verifier(verifier):
            raise InvalidRequestError("The code_verifier is not of the form of RFC 7636.")
        given = Presented(code, verifier, form.get("redirect_uri"), asked.thumbprint)
        found = await self._authority.change(
            lambda session: redeem_code(session, asked.actor, asked.client, given, self._narrow(form), asked.office)
        )
        return _granted(found)

    async def _refresh(self, asked: _Asked) -> Issued:
        text = asked.form.require("refresh_token")
        if not is_secret(text, REFRESH):
            raise invalid_grant()
        narrow, client, office = self._narrow(asked.form), asked.client, asked.office
        found = await self._authority.write(
            lambda session: refresh(session, client, text, asked.thumbprint, narrow, office)
        )
        if isinstance(found, Reused):
            await self._end_family(asked.actor, found.grant)
            raise invalid_grant()
        return _granted(found)

    async def _end_family(self, actor: Actor, grant: str) -> None:
        def work(session: Session) -> None:
            take_turn(session)
            end_grant(session, actor, grant, "a refresh token was used twice", datetime.now(UTC))

        await self._authority.change(work)

    async def _credentials(self, asked: _Asked) -> Issued:
        authority, form, client = self._authority, asked.form, asked.client
        allowed = tuple(name for name in client.scopes if name not in {OPENID, "profile", "offline_access"})
        scopes = authority.scopes.asked(form.get("scope"), allowed)
        if not scopes:
            raise InvalidScopeError()
        audience = authority.resources.asked(form.all("resource"))
        found = await authority.write(lambda session: _own_token(session, asked, scopes, audience))
        return _granted(found)

    async def _device(self, asked: _Asked) -> Issued:
        code = asked.form.require("device_code")
        found = await self._authority.write(
            lambda session: redeem_device(session, asked.actor, asked.client, code, asked.thumbprint, asked.office)
        )
        if isinstance(found, Exception):
            raise found
        return found

    def _narrow(self, form: Form) -> Narrow:
        """What a request may ask for of what was granted (RFC 6749, 6; RFC 8707, 2.2)."""
        authority = self._authority

        def narrow(scopes: Sequence[str], resources: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
            return authority.scopes.asked(form.get("scope"), scopes), authority.resources.asked(
                form.all("resource"), resources
            )

        return narrow

    async def _thumbprint(self, request: Request, client: Client) -> str | None:
        """That of the key with which the client proves possession, if it does."""
        given = incoming_of(request).headers.get("dpop")
        if given is None:
            if client.bound:
                raise InvalidProof()
            return None
        proof = proofs.check(given, request.method, f"{self._authority.issuer}/oauth/token")
        if proof is None:
            raise InvalidProof()
        if (nonce := self._authority.nonce_for(proof)) is not None:
            raise with_headers(UseNonce(), dpop_nonce=nonce)
        if not self._authority.running.replays.is_new(proof):
            raise InvalidProof()
        if not await self._authority.write(lambda session: spend(session, proof.digest, proof.expires)):
            raise InvalidProof()
        return proof.thumbprint


class _Asked:
    """A token request that was understood."""

    __slots__ = ("actor", "client", "form", "office", "thumbprint")

    def __init__(self, form: Form, client: Client, thumbprint: str | None, office: Office, actor: Actor) -> None:
        self.form = form
        self.client = client
        self.thumbprint = thumbprint
        self.office = office
        self.actor = actor


def _own_token(session: Session, asked: _Asked, scopes: Sequence[str], audience: Sequence[str]) -> Issued | None:
    """A token for the client itself. All such tokens belong to one grant, which can be ended."""
    take_turn(session)
    office = asked.office
    client = session.get(ClientRow, asked.client.id)
    if client is None:
        return None
    own = select(GrantRow).where(GrantRow.client == client.id, GrantRow.account.is_(None), GrantRow.ended.is_(None))
    grant = session.scalars(own).first()
    if grant is None:
        wanted = Wanted(None, client.scopes, (), life(client, office.settings))
        grant = open_grant(session, asked.actor, client, wanted, office)
    if usable(session, grant, office.now, office.now) is None:
        return None
    grant.last_used = client.last_used = office.now
    grant.access_seconds = life(client, office.settings)
    return issue(
        session, grant, client, office, scopes=scopes, audience=audience, thumbprint=asked.thumbprint, refresh=False
    )


def _granted(found: Issued | Reused | None) -> Issued:
    if not isinstance(found, Issued):
        raise invalid_grant()
    return found
