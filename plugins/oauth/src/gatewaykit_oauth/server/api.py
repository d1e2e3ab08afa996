"""``/api/admin/clients``, ``/grants``, ``/tokens`` and ``/signing-keys``: the management of the authorization server.

Who has the scope ``admin`` manages everything; who has ``keys``, the grants and tokens of its own account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import BadRequest, NotFound, PermissionDenied
from gatewaykit.guarding import answer, guarded, read_body, read_query
from gatewaykit.protocols import GatewayContext
from gatewaykit.types import ADMIN, KEYS, Principal

from ..keys.api_base import Cursor, Nothing, Size, Text, actor_of, named
from ..keys.audit import take_turn
from ..keys.documents import page_document
from ..keys.model import Actor
from ..keys.rights import manages
from . import clients, listing
from .authority import Authority
from .grants import ALL, cut_off, end_grant, require_subject, revoke_access_token
from .model import ClientChanges, ClientSpec, NewClient
from .signing_keys import list_keys, revoke_key, rotate


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a list."""

    after: Cursor | None = None
    limit: Size = 50


class GrantsQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    """Which grants are listed."""

    account: Text | None = None
    client: Text | None = None
    active: bool = False


class TokensQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    """Which access tokens are listed."""

    account: Text | None = None
    grant: Text | None = None


class CutOff(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens end: all of an account, all of a client, or all there are."""

    account: Text | None = None
    client: Text | None = None
    everything: Literal[True] | None = None


def api_routes(gateway: GatewayContext, authority: Authority) -> list[Route]:
    """All routes that manage the authorization server."""
    desk = _Desk(gateway, authority)

    def route(
        method: str, path: str, endpoint: Callable[[Request, Principal], Awaitable[Response]], scope: str = ADMIN
    ) -> Route:
        return Route(f"/api/admin{path}", guarded(gateway, scope, endpoint), methods=[method])

    return [
        route("GET", "/clients", desk.clients),
        route("POST", "/clients", desk.create_client),
        route("POST", "/clients/{id}/secret", desk.renew_secret),
        route("GET", "/clients/{id:path}", desk.client),
        route("PATCH", "/clients/{id:path}", desk.update_client),
        route("GET", "/grants", desk.grants, KEYS),
        route("GET", "/grants/{id}", desk.grant, KEYS),
        route("POST", "/grants/{id}/revoke", desk.revoke_grant, KEYS),
        route("GET", "/tokens", desk.tokens, KEYS),
        route("POST", "/tokens/revoke", desk.cut_off, KEYS),
        route("GET", "/tokens/{id}", desk.token, KEYS),
        route("POST", "/tokens/{id}/revoke", desk.revoke_token, KEYS),
        route("GET", "/signing-keys", desk.signing_keys),
        route("POST", "/signing-keys/rotate", desk.rotate_keys),
        route("POST", "/signing-keys/{id}/revoke", desk.revoke_signing_key),
    ]


class _Desk:
    def __init__(self, gateway: GatewayContext, authority: Authority) -> None:
        self._gateway = gateway
        self._authority = authority

    def _actor(self, request: Request, principal: Principal) -> Actor:
        return actor_of(request, principal, self._gateway)

    # Clients

    async def clients(self, request: Request, principal: Principal) -> Response:
        query = read_query(request, PageQuery)
        found = await self._authority.read(lambda session: clients.find(session, after=query.after, limit=query.limit))
        return answer(page_document(found, document))

    async def create_client(self, request: Request, principal: Principal) -> Response:
        spec, authority = await read_body(request, ClientSpec), self._authority
        actor, secrets = self._actor(request, principal), authority.running.secrets
        made = await authority.change(
            lambda session: clients.create(session, actor, spec, secrets=secrets, settings=authority.settings)
        )
        return answer(new_client_document(made), 201)

    async def client(self, request: Request, principal: Principal) -> Response:
        client_id = named(request, "id")
        return answer(document(await self._authority.read(lambda session: clients.get(session, client_id))))

    async def update_client(self, request: Request, principal: Principal) -> Response:
        changes, authority = await read_body(request, ClientChanges), self._authority
        actor, client_id = self._actor(request, principal), named(request, "id")
        changed = await authority.change(
            lambda session: clients.update(session, actor, client_id, changes, settings=authority.settings)
        )
        return answer(document(changed))

    async def renew_secret(self, request: Request, principal: Principal) -> Response:
        await read_body(request, Nothing)
        actor, client_id = self._actor(request, principal), named(request, "id")
        secrets = self._authority.running.secrets
        made = await self._authority.change(
            lambda session: clients.renew_secret(
                session, actor, client_id, secrets=secrets, settings=self._authority.settings
            )
        )
        return answer(new_client_document(made))

    # Grants

    async def grants(self, request: Request, principal: Principal) -> Response:
        query, now = read_query(request, GrantsQuery), datetime.now(UTC)
        account = seen(principal, query.account)
        found = await self._authority.read(
            lambda session: listing.find_grants(
                session,
                now=now,
                account=account,
                client=query.client,
                active=query.active,
                after=query.after,
                limit=query.limit,
            )
        )
        return answer(page_document(found, document))

    async def grant(self, request: Request, principal: Principal) -> Response:
        actor, grant_id = self._actor(request, principal), named(request, "id")

        def read(session: Session) -> Any:
            grant = listing.get_grant(session, grant_id, datetime.now(UTC))
            return grant if manages(actor, listing.counts_for(session, grant)) else None

        return answer(document(_found(await self._authority.read(read))))

    async def revoke_grant(self, request: Request, principal: Principal) -> Response:
        await read_body(request, Nothing)
        actor, grant_id = self._actor(request, principal), named(request, "id")

        def work(session: Session) -> Any:
            take_turn(session)
            now = datetime.now(UTC)
            if not manages(actor, listing.counts_for(session, listing.get_grant(session, grant_id, now))):
                return None
            end_grant(session, actor, grant_id, "it was withdrawn", now)
            session.expire_all()
            return listing.get_grant(session, grant_id, now)

        return answer(document(_found(await self._authority.change(work))))

    # Tokens

    async def tokens(self, request: Request, principal: Principal) -> Response:
        query, now = read_query(request, TokensQuery), datetime.now(UTC)
        account = seen(principal, query.account)
        found = await self._authority.read(
            lambda session: listing.find_tokens(
                session, now=now, account=account, grant=query.grant, after=query.after, limit=query.limit
            )
        )
        return answer(page_document(found, document))

    async def token(self, request: Request, principal: Principal) -> Response:
        actor, jti = self._actor(request, principal), named(request, "id")

        def read(session: Session) -> Any:
            token = listing.get_token(session, jti)
            return token if manages(actor, listing.counts_for(session, token)) else None

        return answer(document(_found(await self._authority.read(read))))

    async def revoke_token(self, request: Request, principal: Principal) -> Response:
        await read_body(request, Nothing)
        actor, jti = self._actor(request, principal), named(request, "id")

        def work(session: Session) -> Any:
            take_turn(session)
            if not manages(actor, listing.counts_for(session, listing.get_token(session, jti))):
                return None
            revoke_access_token(session, actor, jti, datetime.now(UTC))
            session.expire_all()
            return listing.get_token(session, jti)

        return answer(document(_found(await self._authority.change(work))))

    async def cut_off(self, request: Request, principal: Principal) -> Response:
        asked, actor = await read_body(request, CutOff), self._actor(request, principal)
        subject = subject_of(asked)
        if ADMIN not in principal.scopes and subject != f"user:{principal.owner}":
            raise PermissionDenied("This ends the tokens of its own account only.", param="account")

        def work(session: Session) -> None:
            require_subject(session, subject)
            cut_off(session, actor, subject, "all tokens were revoked")

        await self._authority.change(work)
        return answer({"revoked": subject})

    # Signing keys

    async def signing_keys(self, request: Request, principal: Principal) -> Response:
        found = await self._authority.read(list_keys)
        return answer({"items": [document(key) for key in found], "next": None})

    async def rotate_keys(self, request: Request, principal: Principal) -> Response:
        await read_body(request, Nothing)
        authority, actor = self._authority, self._actor(request, principal)
        secrets = authority.running.secrets
        await authority.change(lambda session: rotate(session, actor, secrets, authority.settings, datetime.now(UTC)))
        return await self.signing_keys(request, principal)

    async def revoke_signing_key(self, request: Request, principal: Principal) -> Response:
        await read_body(request, Nothing)
        authority, actor, kid = self._authority, self._actor(request, principal), named(request, "id")
        secrets = authority.running.secrets
        revoked = await authority.change(
            lambda session: revoke_key(session, actor, kid, secrets, authority.settings, datetime.now(UTC))
        )
        return answer(document(revoked))


def document(known: Any) -> dict[str, Any]:
    """A client, grant, token or key as JSON; moments are RFC 3339 in UTC."""
    return dict(msgspec.to_builtins(known))


def new_client_document(made: NewClient) -> dict[str, Any]:
    """A client with its new secret, which nothing else ever shows."""
    return {**document(made.client), "secret": made.secret}


def subject_of(asked: CutOff) -> str:
    """Whose tokens end, as the feed calls it. Raises :class:`~gatewaykit.errors.BadRequest` unless it is one thing."""
    named_ones = [
        subject
        for subject, given in (
            (f"user:{asked.account}", asked.account),
            (f"client:{asked.client}", asked.client),
            (ALL, asked.everything),
        )
        if given
    ]
    if len(named_ones) != 1:
        raise BadRequest("Say one of account, client and everything.")
    return named_ones[0]


def seen(principal: Principal, account: str | None) -> str | None:
    """Whose grants and tokens are listed: those asked for, if this principal manages them."""
    if ADMIN in principal.scopes:
        return account
    if not principal.owner:
        raise PermissionDenied("This key belongs to no account, and so has no grants to manage.")
    if account not in {None, principal.owner}:
        raise PermissionDenied("This key manages the grants of its own account only.", param="account")
    return principal.owner


def _found(found: Any) -> Any:
    if found is None:
        raise NotFound("There is nothing of this name.")
    return found
