"""``/admin/clients``, for admins: the programs that may ask people for access. A new secret is on one page, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

from msgspec import Struct
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import BadRequest, GatewayError
from gatewaykit.guarding import read_query

from ..accounts import account_ids
from ..keys import store
from ..keys.api_base import Cursor, Text
from ..keys.model import Actor, AuditEntry
from ..web import Form, Session, Site, acting, form_of, redirect, refused, render
from ..web.rendering import Entry
from ..web.site import Page
from ..web.values import words
from ..words import N_
from . import clients
from .authority import Authority
from .grants import cut_off
from .model import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN, Client, ClientChanges, ClientSpec
from .pages import LIVES

PATH, NEW, ONE = "/admin/clients", "/admin/clients/new", "/admin/clients/one"
ON_A_PAGE = 50
GRANTS = {
    AUTHORIZATION_CODE: N_("Somebody agrees to it in the browser"),
    REFRESH_TOKEN: N_("It stays connected, by refreshing its access"),
    DEVICE_CODE: N_("Somebody types the code that it shows"),
    CLIENT_CREDENTIALS: N_("It acts on its own, without anybody"),
}
_FIELDS = ("name", "kind", "redirect_uris", "owner", "access_seconds", "bound", "repetition")


class ListQuery(Struct, frozen=True):
    """Which part of the list."""

    after: Cursor | None = None


class OneQuery(Struct, frozen=True):
    """Which client: its id may be an address, and then fits into no path."""

    id: Cursor
    done: Text = ""


Change = Callable[[Database, Actor, str], object]


def client_routes(authority: Authority, site: Site) -> list[Route]:
    """The list, one client, and what can be done with it."""
    desk = _Desk(authority)
    site.entries.append(Entry(PATH, N_("Programs"), "apps", for_admins=True))
    both = ["GET", "POST"]

    def sent(name: str, endpoint: Page) -> Route:
        return Route(f"{ONE}/{name}", site.sent_page(endpoint, ONE, admin=True, fresh=True), methods=both)

    return [
        Route(PATH, site.page(desk.show_all, admin=True)),
        Route(NEW, site.page(desk.create, admin=True, fresh=True), methods=both),
        Route(ONE, site.page(desk.show, admin=True)),
        Route(f"{ONE}/edit", site.page(desk.edit, admin=True, fresh=True), methods=both),
        sent("secret", desk.renew_secret),
        *(sent(name, desk.changed_by(name)) for name in desk.changes),
    ]


class _Desk:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.changes: Mapping[str, tuple[Change, str]] = {
            "disable": (partial(self._set_enabled, enabled=False), "client-disabled"),
            "enable": (partial(self._set_enabled, enabled=True), "client-enabled"),
            "withdraw": (_withdraw, "client-withdrawn"),
        }

    async def show_all(self, request: Request, session: Session) -> Response:
        """All clients, by id."""
        query = read_query(request, ListQuery)
        found = await self._authority.read(lambda database: clients.find(database, after=query.after, limit=ON_A_PAGE))
        return render(request, "oauth/clients.html", clients=found.items, following=found.next, after=query.after)

    async def show(self, request: Request, session: Session) -> Response:
        """One client, and what happened to it lately."""
        client_id = _id(request)

        def read(database: Database) -> tuple[Client, Sequence[AuditEntry]]:
            client = clients.get(database, client_id)
            return client, store.audit(database, key_id=client_id, limit=10).items

        client, entries = await self._authority.read(read)
        return render(request, "oauth/client.html", client=client, entries=entries, grants=GRANTS)

    async def create(self, request: Request, session: Session) -> Response:
        """The form for a new client, and the client with its secret."""
        if request.method != "POST":
            return await self._form(request, _fields(ClientSpec(name="")) | {"repetition": token_hex(16)}, None)
        form, actor, authority = await form_of(request), acting(request, session), self._authority
        secrets = authority.running.secrets
        once = form.text("repetition") or None
        make = partial(clients.create, secrets=secrets, settings=authority.settings, idempotency_key=once)
        try:
            spec = ClientSpec(confidential=form.text("kind") == "confidential", **_said(form))
            made = await authority.change(lambda database: make(database, actor, spec))
        except BadRequest as error:
            return await self._form(request, _typed(form), error)
        if made.secret is None:
            return redirect(request, ONE, id=made.client.id, done="client-made")
        return render(request, "oauth/client-secret.html", client=made.client, secret=made.secret)

    async def edit(self, request: Request, session: Session) -> Response:
        """The form for a client that there is."""
        client_id, authority = _id(request), self._authority
        client = await authority.read(lambda database: clients.get(database, client_id))
        if request.method != "POST":
            return await self._form(request, _fields(client), None, client)
        form, actor = await form_of(request), acting(request, session)
        change = partial(clients.update, settings=authority.settings)
        try:
            changes = ClientChanges(**_said(form))
            await authority.change(lambda database: change(database, actor, client_id, changes))
        except BadRequest as error:
            return await self._form(request, _typed(form), error, client)
        return redirect(request, ONE, id=client_id, done="client-changed")

    async def renew_secret(self, request: Request, session: Session) -> Response:
        """Another secret, shown once; the one before works no longer."""
        client_id, actor, authority = _id(request), acting(request, session), self._authority
        renew = partial(clients.renew_secret, secrets=authority.running.secrets, settings=authority.settings)
        made = await authority.change(lambda database: renew(database, actor, client_id))
        return render(request, "oauth/client-secret.html", client=made.client, secret=made.secret)

    def changed_by(self, name: str) -> Page:
        """The page that does one of :attr:`changes`, and goes back to the client."""
        change, done = self.changes[name]

        async def changed(request: Request, session: Session) -> Response:
            client_id, actor = _id(request), acting(request, session)
            await self._authority.change(lambda database: change(database, actor, client_id))
            return redirect(request, ONE, id=client_id, done=done)

        return changed

    def _set_enabled(self, database: Database, actor: Actor, client_id: str, *, enabled: bool) -> None:
        settings = self._authority.settings
        clients.update(database, actor, client_id, ClientChanges(enabled=enabled), settings=settings)

    async def _form(
        self, request: Request, fields: dict[str, Any], error: GatewayError | None, client: Client | None = None
    ) -> Response:
        scopes, longest = self._authority.scopes, self._authority.settings.longest_access_seconds
        own = {client.access_seconds} if client is not None and client.access_seconds is not None else set()
        return render(
            request,
            "oauth/client-form.html",
            client=client,
            fields=fields,
            grants=GRANTS,
            scopes={name: scopes.describe(name) for name in scopes.names},
            owners=await self._authority.read(partial(account_ids, chosen=fields["owner"])),
            usual=self._authority.settings.access_seconds,
            lives=sorted({*(seconds for seconds in LIVES if seconds <= longest), *own}),
            **refused(request, error),
        )


def _withdraw(database: Database, actor: Actor, client_id: str) -> None:
    clients.get(database, client_id)
    cut_off(database, actor, f"client:{client_id}", "all tokens were revoked")


def _id(request: Request) -> str:
    return read_query(request, OneQuery).id


# Forms


def _fields(known: ClientSpec | Client) -> dict[str, Any]:
    return {
        "name": known.name,
        "kind": "confidential" if known.confidential else "public",
        "redirect_uris": "\n".join(known.redirect_uris),
        "owner": known.owner or "",
        "access_seconds": "" if known.access_seconds is None else str(known.access_seconds),
        "bound": known.bound,
        "grants": known.grants,
        "scopes": known.scopes,
    }


def _typed(form: Form) -> dict[str, Any]:
    """What was typed, so that nobody types it twice."""
    return {name: form.text(name) for name in _FIELDS} | {name: form.all(name) for name in ("grants", "scopes")}


def _said(form: Form) -> dict[str, Any]:
    return {
        "name": form.text("name"),
        "redirect_uris": words(form.text("redirect_uris")),
        "grants": form.all("grants"),
        "scopes": form.all("scopes"),
        "owner": form.text("owner") or None,
        "access_seconds": _seconds(form.text("access_seconds")),
        "bound": form.text("bound") == "yes",
    }


def _seconds(text: str) -> int | None:
    """Nothing is the usual life; what is no number is a life of no seconds, which is refused."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
