"""``/api/admin/keys``: the management of keys by JSON.

Who has the scope ``admin`` manages all keys; who has ``keys``, those of its own owner. A path names a key by its id,
never by a secret. The answer to a change is what ``GET`` would give afterwards; a new secret is added to it, once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Annotated

from msgspec import UNSET, Meta, Struct
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import BadRequest, NotFound, PermissionDenied
from gatewaykit.guarding import answer, guarded, read_body, read_query
from gatewaykit.types import ADMIN, KEYS, Principal

from . import store
from .api_accounts import account_routes
from .api_base import Cursor, Desk, Nothing, Size, Text, named
from .checks import LONGEST_GRACE
from .documents import audit_document, created_document, key_document, page_document
from .model import Actor, ApiKey, AuditEntry, KeyChanges, KeySpec, Page, Sort, Status
from .rights import manages

Change = Callable[[Session, Actor, str], ApiKey]
_MOST_AT_ONCE = 200
_LONGEST = int(LONGEST_GRACE.total_seconds())


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which keys are listed: ``text`` is looked for in names, notes and ids."""

    owner: Text | None = None
    status: Status | None = None
    text: Text | None = None
    sort: Sort = "-created"
    after: Cursor | None = None
    limit: Size = 50


class AuditQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which changes are listed, the newest first."""

    actor: Text | None = None
    after: Cursor | None = None
    limit: Size = 50


class NewKey(KeyChanges, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a new key is to be. It ends after 90 days unless ``expires`` says otherwise; ``null`` is never."""

    name: str
    owner: str | None = None


class Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    """How many seconds the old secret still works."""

    grace: Annotated[int, Meta(ge=0, le=_LONGEST)] = int(store.DEFAULT_GRACE.total_seconds())


class Many(Struct, frozen=True, forbid_unknown_fields=True):
    """Which keys end together: these, or all of an owner."""

    ids: Annotated[tuple[Text, ...], Meta(max_length=_MOST_AT_ONCE)] = ()
    owner: Text | None = None


def routes(desk: Desk) -> list[Route]:
    """All routes that manage keys and accounts."""
    keys = _Keys(desk)

    def route(method: str, path: str, endpoint: Callable[..., Awaitable[Response]], scope: str = KEYS) -> Route:
        return Route(f"/api/admin{path}", guarded(desk.gateway, scope, endpoint), methods=[method])

    changes: dict[str, Change] = {
        "cut": store.cut,
        "disable": partial(store.set_enabled, enabled=False),
        "enable": partial(store.set_enabled, enabled=True),
        "revoke": store.revoke,
    }
    return [
        route("GET", "/keys", keys.list),
        route("POST", "/keys", keys.create),
        route("POST", "/keys/revoke", keys.revoke_many),
        route("GET", "/keys/{id}", keys.show),
        route("PATCH", "/keys/{id}", keys.update),
        route("POST", "/keys/{id}/rotate", keys.rotate),
        *(route("POST", f"/keys/{{id}}/{name}", partial(keys.change, change)) for name, change in changes.items()),
        route("GET", "/keys/{id}/audit", keys.audit),
        route("GET", "/audit", keys.audit_all, ADMIN),
        *account_routes(desk),
    ]


class _Keys:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list(self, request: Request, principal: Principal) -> Response:
        query = read_query(request, ListQuery)
        found = await self._desk.read(
            lambda session: store.find(
                session,
                owner=_seen(principal, query.owner),
                status=query.status,
                text=query.text or None,
                sort=query.sort,
                after=query.after,
                limit=query.limit,
            )
        )
        return answer(page_document(found, key_document))

    async def create(self, request: Request, principal: Principal) -> Response:
        wanted = await read_body(request, NewKey)
        actor, spec = self._desk.actor(request, principal), wanted.applied(KeySpec(name=wanted.name))
        create = partial(
            store.create,
            secrets=self._desk.secrets(),
            lifetime=store.usual_lifetime(self._desk.longest) if wanted.expires is UNSET else None,
            longest=self._desk.longest,
            idempotency_key=request.headers.get("idempotency-key"),
        )
        created = await self._desk.write(lambda session: create(session, actor, spec))
        return answer(created_document(created), 201 if created.secret else 200)

    async def show(self, request: Request, principal: Principal) -> Response:
        actor, key_id = self._desk.actor(request, principal), named(request, "id")
        return answer(key_document(await self._desk.read(lambda session: managed(session, actor, key_id))))

    async def update(self, request: Request, principal: Principal) -> Response:
        changes = await read_body(request, KeyChanges)
        actor, key_id = self._desk.actor(request, principal), named(request, "id")
        change = partial(store.update, longest=self._desk.longest)
        key = await self._desk.write(lambda session: change(session, actor, key_id, changes))
        return answer(key_document(key))

    async def rotate(self, request: Request, principal: Principal) -> Response:
        rotation = await read_body(request, Rotation)
        actor, key_id = self._desk.actor(request, principal), named(request, "id")
        rotate = partial(
            store.rotate,
            grace=timedelta(seconds=rotation.grace),
            idempotency_key=request.headers.get("idempotency-key"),
            secrets=self._desk.secrets(),
        )
        return answer(created_document(await self._desk.write(lambda session: rotate(session, actor, key_id))))

    async def change(self, change: Change, request: Request, principal: Principal) -> Response:
        await read_body(request, Nothing)
        actor, key_id = self._desk.actor(request, principal), named(request, "id")
        return answer(key_document(await self._desk.write(lambda session: change(session, actor, key_id))))

    async def revoke_many(self, request: Request, principal: Principal) -> Response:
        """All of them, or none."""
        wanted, actor = await read_body(request, Many), self._desk.actor(request, principal)
        if bool(wanted.ids) == (wanted.owner is not None):
            raise BadRequest("Say either ids or owner.")
        owner = None if wanted.owner is None else _seen(principal, wanted.owner)
        revoked = await self._desk.write(lambda session: store.revoke_many(session, actor, wanted.ids, owner))
        return answer({"items": [key_document(key) for key in revoked]})

    async def audit(self, request: Request, principal: Principal) -> Response:
        query = read_query(request, AuditQuery)
        actor, key_id = self._desk.actor(request, principal), named(request, "id")

        def read(session: Session) -> Page[AuditEntry]:
            managed(session, actor, key_id)
            return store.audit(session, key_id=key_id, actor=query.actor, after=query.after, limit=query.limit)

        return answer(page_document(await self._desk.read(read), audit_document))

    async def audit_all(self, request: Request, principal: Principal) -> Response:
        query = read_query(request, AuditQuery)
        found = await self._desk.read(
            lambda session: store.audit(session, actor=query.actor, after=query.after, limit=query.limit)
        )
        return answer(page_document(found, audit_document))


def managed(session: Session, actor: Actor, key_id: str) -> ApiKey:
    """The key, if this actor manages it. Raises :class:`~gatewaykit.errors.NotFound` if not."""
    key = store.get(session, key_id)
    if not manages(actor, key.owner):
        raise NotFound("There is no such key.")
    return key


def _seen(principal: Principal, owner: str | None) -> str | None:
    """Whose keys are listed: those asked for, if this principal manages them."""
    if ADMIN in principal.scopes:
        return owner
    if not principal.owner:
        raise PermissionDenied("This key belongs to no account, and so has no keys to manage.")
    if owner not in {None, principal.owner}:
        raise PermissionDenied("This key manages the keys of its own account only.", param="owner")
    return principal.owner
