"""``/api/admin/accounts``: who owns keys, by JSON; for the scope ``admin``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.guarding import answer, guarded, read_body, read_query
from gatewaykit.types import ADMIN, Principal

from ..accounts import get_account, list_accounts
from .account_changes import AccountChanges, add_account, change_account
from .api_base import Cursor, Desk, Size, named
from .documents import account_document, page_document
from .model import Account


class AccountsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the accounts is listed, by id."""

    after: Cursor | None = None
    limit: Size = 50


def account_routes(desk: Desk) -> list[Route]:
    """The routes that manage accounts."""
    accounts = _Accounts(desk)

    def route(method: str, path: str, endpoint: Callable[[Request, Principal], Awaitable[Response]]) -> Route:
        return Route(f"/api/admin/accounts{path}", guarded(desk.gateway, ADMIN, endpoint), methods=[method])

    return [
        route("GET", "", accounts.list),
        route("POST", "", accounts.create),
        route("GET", "/{id}", accounts.show),
        route("PATCH", "/{id}", accounts.update),
    ]


class _Accounts:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list(self, request: Request, principal: Principal) -> Response:
        query = read_query(request, AccountsQuery)
        found = await self._desk.read(lambda session: list_accounts(session, after=query.after, limit=query.limit))
        return answer(page_document(found, account_document))

    async def create(self, request: Request, principal: Principal) -> Response:
        account = await read_body(request, Account)
        actor = self._desk.actor(request, principal)
        made = await self._desk.write(lambda session: add_account(session, actor, account))
        return answer(account_document(made), 201)

    async def show(self, request: Request, principal: Principal) -> Response:
        account_id = named(request, "id")
        return answer(account_document(await self._desk.read(lambda session: get_account(session, account_id))))

    async def update(self, request: Request, principal: Principal) -> Response:
        changes = await read_body(request, AccountChanges)
        actor, account_id = self._desk.actor(request, principal), named(request, "id")
        changed = await self._desk.write(lambda session: change_account(session, actor, account_id, changes))
        return answer(account_document(changed))
