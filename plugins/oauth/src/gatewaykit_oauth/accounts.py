"""Accounts: the people and services that own keys, on a session of the database."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from gatewaykit.errors import NotFound, PermissionDenied
from gatewaykit.types import ADMIN

from .faults import Refusal
from .keys.audit import record, take_turn
from .keys.checks import check_account
from .keys.model import Account, Actor, KeyLimits, Page
from .keys.rows import columns, described
from .keys.store import require_unbound
from .tables import AccountRow
from .words import filled

_TO_CHOOSE_FROM = 200


def put_account(session: Session, actor: Actor, account: Account, *, now: datetime | None = None) -> Account:
    """Make an account, or replace what is known of it: its keys follow at once.

    Raises :class:`~gatewaykit.errors.PermissionDenied` unless the actor is an admin, and not by a key of that very
    account, which would then give itself more, nor by one that is bound itself;
    :class:`~gatewaykit.errors.BadRequest` for a field that is wrong.
    """
    now = now or datetime.now(UTC)
    check_account(account)
    _require_admin(actor, account.id)
    take_turn(session)
    require_unbound(session, actor, now)
    row = session.get(AccountRow, account.id)
    before = None if row is None else account_of(row)
    if before == account:
        return account
    if row is None:
        row = AccountRow(id=account.id, created=now)
        session.add(row)
    for name, value in columns(account, Account.__struct_fields__).items():
        setattr(row, name, value)
    record(
        session,
        actor,
        "account.create" if before is None else "account.update",
        f"user:{account.id}",
        before=None if before is None else described(before),
        after=described(account),
        now=now,
    )
    return account


def get_account(session: Session, account_id: str) -> Account:
    """The account. Raises :class:`~gatewaykit.errors.NotFound`."""
    row = session.get(AccountRow, account_id)
    if row is None:
        raise NotFound("There is no such account.")
    return account_of(row)


def list_accounts(
    session: Session, *, text: str | None = None, after: str | None = None, limit: int = 50
) -> Page[Account]:
    """Accounts by id, with ``text`` in id or name; ``after`` is the id at which the part before ended."""
    query = select(AccountRow).order_by(AccountRow.id).limit(limit + 1)
    if text:
        query = query.where(or_(*(one.icontains(text, autoescape=True) for one in (AccountRow.id, AccountRow.name))))
    if after is not None:
        query = query.where(AccountRow.id > after)
    rows = list(session.scalars(query))
    items = tuple(account_of(row) for row in rows[:limit])
    return Page(items, items[-1].id if len(rows) > limit else None)


def account_ids(session: Session, *, chosen: str | None = None) -> list[str]:
    """Ids to choose from: those of the first accounts, and the one that is ``chosen`` already in any case."""
    ids = [account.id for account in list_accounts(session, limit=_TO_CHOOSE_FROM).items]
    return ids if not chosen or chosen in ids else [chosen, *ids]


def _require_admin(actor: Actor, account_id: str) -> None:
    if actor.principal is None:
        return
    if ADMIN not in actor.principal.scopes:
        raise Refusal(filled("This needs the scope '%(scope)s', which this key does not have.", scope=ADMIN))
    if actor.principal.owner == account_id:
        raise PermissionDenied("A key cannot change the account that owns it.")


def account_of(row: AccountRow) -> Account:
    """The row as it is shown."""
    return Account(
        id=row.id,
        name=row.name,
        kind="service" if row.kind == "service" else "user",
        role="admin" if row.role == "admin" else "member",
        enabled=row.enabled,
        models=tuple(row.models),
        limits=msgspec.convert(row.limits, KeyLimits),
        longest_access_seconds=row.longest_access_seconds,
    )
