"""Users, for admins: who has an account, who may do what, and how they get in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import Struct, structs
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.errors import BadRequest, GatewayError, PermissionDenied
from gatewaykit.guarding import read_query
from gatewaykit.storage.spending import spent

from ..accounts import get_account, list_accounts
from ..keys import store
from ..keys.account_changes import AccountChanges, add_account, change_account
from ..keys.api_base import Cursor, Text, named
from ..keys.audit import record, take_turn
from ..keys.model import Account, Actor, ApiKey, LimitChanges, Page
from ..signin import links, sessions
from ..signin.credentials import Credentials, credentials_of, remove_factor
from ..signin.sessions import Session
from ..words import N_
from .forms import Form, form_of
from .key_lists import currency_of
from .rendering import render
from .site import Page as WebPage
from .site import acting, redirect, refused, site_of
from .values import access_of, limits_of, shown_limits, words

ON_A_PAGE = 50
OWN = N_("What concerns your own account is on its page, where your password is asked for.")


class UsersQuery(Struct, frozen=True):
    """Which accounts, and which part of their list."""

    text: Text = ""
    after: Cursor | None = None
    done: Text = ""


class User(Struct, frozen=True):
    """An account, and how it signs in."""

    account: Account
    credentials: Credentials | None
    invited: bool


async def list_users(request: Request, session: Session) -> Response:
    """All accounts, or those that are looked for."""
    query, now = read_query(request, UsersQuery), datetime.now(UTC)

    def read(database: Database) -> Page[User]:
        found = list_accounts(database, text=query.text.strip(), after=query.after, limit=ON_A_PAGE)
        return Page(tuple(_user(database, account, now) for account in found.items), found.next)

    found = await site_of(request).desk.read(read)
    return render(request, "users.html", users=found.items, following=found.next, query=query)


async def new_user(request: Request, session: Session) -> Response:
    """A new account, and for a person the link to choose a password."""
    if request.method != "POST":
        return _form(request, _typed_account(Account(id="")), None)
    form, site, actor, now = await form_of(request), site_of(request), acting(request, session), datetime.now(UTC)
    try:
        account = _account(form, Account(id=form.text("id")))

        def make(database: Database) -> str | None:
            if account.kind == "service":
                add_account(database, actor, account)
                return None
            return links.invite(database, actor, account, now)

        token = await site.desk.write(make)
    except (BadRequest, PermissionDenied) as error:
        return _form(request, _typed(form), error)
    if token is None:
        return redirect(request, f"/admin/users/{account.id}", done="user-changed")
    return _link_shown(request, account, token)


async def show_user(request: Request, session: Session) -> Response:
    """One account."""
    site, account_id, now = site_of(request), named(request, "id"), datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def read(database: Database) -> tuple[User, Sequence[ApiKey], Sequence[Session], int, Any]:
        user = _user(database, get_account(database, account_id), now)
        keys = store.find(database, owner=account_id, sort="-last_used", limit=10).items
        open_sessions = sessions.of_account(database, account_id, site.lives, now)
        entries = store.audit(database, key_id=account_id, limit=10).items
        return user, keys, open_sessions, spent(database, f"user:{account_id}", month), entries

    user, keys, open_sessions, spending, entries = await site.desk.read(read)
    return render(
        request,
        "user.html",
        user=user,
        keys=keys,
        sessions=open_sessions,
        spent=spending,
        entries=entries,
        currency=currency_of(request),
        is_self=account_id == session.account.id,
    )


async def edit_user(request: Request, session: Session) -> Response:
    """Name, role, models and limits."""
    site, account_id, actor = site_of(request), _another(request, session), acting(request, session)
    account = await site.desk.read(lambda database: get_account(database, account_id))
    if request.method != "POST":
        return _form(request, _typed_account(account), None, account)
    form = await form_of(request)
    try:
        wanted = _account(form, account)
        names = ("name", "role", "models", "longest_access_seconds")
        given = {name: getattr(wanted, name) for name in names}
        changes = AccountChanges(**given, limits=LimitChanges.to(wanted.limits))
        await site.desk.write(lambda database: change_account(database, actor, account_id, changes))
    except (BadRequest, PermissionDenied) as error:
        return _form(request, _typed(form), error, account)
    return redirect(request, f"/admin/users/{account_id}", done="user-changed")


async def link_user(request: Request, session: Session) -> Response:
    """A new link to choose a password, shown once."""
    site, actor, now = site_of(request), acting(request, session), datetime.now(UTC)
    account_id = _another(request, session)

    def make(database: Database) -> tuple[Account, str]:
        account = get_account(database, account_id)
        return account, links.new_link(database, actor, account, now)

    account, token = await site.desk.write(make)
    return _link_shown(request, account, token)


def changed_by(name: str) -> WebPage:
    """The page that does one of :data:`CHANGES`, and goes back to the account."""
    change, done = CHANGES[name]

    async def changed(request: Request, session: Session) -> Response:
        actor, account_id, now = acting(request, session), _another(request, session), datetime.now(UTC)
        await site_of(request).desk.write(lambda database: change(database, actor, account_id, now))
        return redirect(request, f"/admin/users/{account_id}", done=done)

    return changed


def _another(request: Request, session: Session) -> str:
    """The id in the path. Raises :class:`~gatewaykit.errors.PermissionDenied` for one's own account: whoever has no
    more than its session must not come by its password or rid it of its second factor.
    """
    account_id = named(request, "id")
    if account_id == session.account.id:
        raise PermissionDenied(OWN)
    return account_id


def _set_enabled(database: Database, actor: Actor, account_id: str, now: datetime, *, enabled: bool) -> None:
    change_account(database, actor, account_id, AccountChanges(enabled=enabled))


def _end_sessions(database: Database, actor: Actor, account_id: str, now: datetime) -> None:
    take_turn(database)
    get_account(database, account_id)
    sessions.end_all(database, account_id)
    record(database, actor, "account.sessions.end", f"user:{account_id}", before=None, after=None, now=now)


Change = Callable[[Database, Actor, str, datetime], None]
CHANGES: Mapping[str, tuple[Change, str]] = {
    "disable": (partial(_set_enabled, enabled=False), "user-disabled"),
    "enable": (partial(_set_enabled, enabled=True), "user-enabled"),
    "end-sessions": (_end_sessions, "user-sessions-ended"),
    "remove-factor": (remove_factor, "factor-removed"),
}


# Pages and forms


def _user(database: Database, account: Account, now: datetime) -> User:
    return User(account, credentials_of(database, account.id), links.is_invited(database, account.id, now))


def _link_shown(request: Request, account: Account, token: str) -> Response:
    link = f"{site_of(request).base_url(request)}/admin/setup/{token}"
    return render(request, "user-link.html", account=account, link=link)


def _form(
    request: Request, fields: dict[str, Any], error: GatewayError | None, account: Account | None = None
) -> Response:
    return render(
        request,
        "user-form.html",
        account=account,
        fields=fields,
        **refused(request, error),
    )


def _typed_account(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "kind": account.kind,
        "role": account.role,
        "models": "\n".join(account.models),
        "longest_access": "" if account.longest_access_seconds is None else str(account.longest_access_seconds // 3600),
        **shown_limits(account.limits),
    }


def _typed(form: Form) -> dict[str, Any]:
    return {name: form.text(name) for name in _typed_account(Account(id=""))}


def _account(form: Form, known: Account) -> Account:
    return structs.replace(
        known,
        name=form.text("name"),
        kind=form.text("kind") if "kind" in form else known.kind,
        role=form.text("role") or "member",
        models=words(form.text("models")) or ("*",),
        limits=limits_of(form),
        longest_access_seconds=_access(form, known),
    )


def _access(form: Form, known: Account) -> int | None:
    """As it was, unless another number of hours was typed: the field shows whole ones only."""
    same = form.text("longest_access") == _typed_account(known)["longest_access"]
    return known.longest_access_seconds if same else access_of(form)
