"""Setup links: with one of them somebody chooses a password, once, within a day. There is no default password.

The link of an account is made by an admin or on the command line. The first link of all belongs to no account: it is
shown when the gateway starts and nobody can manage it yet, and whoever follows it becomes its first admin.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, NotFound

from ..accounts import account_of, put_account
from ..keys.account_changes import AccountChanges, add_account, change_account
from ..keys.audit import record, take_turn
from ..keys.model import Account, Actor
from ..tables import AccountRow, CredentialsRow, IdentityRow, SetupLinkRow
from .credentials import set_password
from .tokens import LINK, digest, new_token

LIFE = timedelta(hours=24)
SETUP = Actor("setup")
"""Who acts when the first admin is made."""


def first_link(session: Session, now: datetime) -> str | None:
    """The token of a new first link, which replaces those before; None where there is an admin who can sign in."""
    take_turn(session)
    if has_admin(session):
        return None
    return _made(session, None, now)


def has_admin(session: Session) -> bool:
    """Whether some admin can sign in: with a password, or through an outside provider."""
    can = exists().where(CredentialsRow.account == AccountRow.id) | exists().where(IdentityRow.account == AccountRow.id)
    query = select(AccountRow.id).where(AccountRow.role == "admin", AccountRow.enabled, can)
    return session.scalar(query.limit(1)) is not None


def new_link(session: Session, actor: Actor, account: Account, now: datetime) -> str:
    """The token of a new link for the account, which replaces those before.

    Raises :class:`~gatewaykit.errors.BadRequest` for an account that does not sign in.
    """
    if account.kind != "user":
        raise BadRequest("A service does not sign in.", param="kind")
    take_turn(session)
    token = _made(session, account.id, now)
    record(session, actor, "account.link", f"user:{account.id}", before=None, after=None, now=now)
    return token


def invite(session: Session, actor: Actor, account: Account, now: datetime) -> str:
    """Make an account, and a link for whoever will use it; its token."""
    return new_link(session, actor, add_account(session, actor, account), now)


def linked(session: Session, token: str, now: datetime) -> SetupLinkRow | None:
    """The link, if it can be followed."""
    wanted = digest(token, LINK)
    row = None if wanted is None else session.get(SetupLinkRow, wanted)
    return row if row is not None and row.ends > now else None


def require_linked(session: Session, token: str, now: datetime) -> None:
    """Raise :class:`~gatewaykit.errors.NotFound` for a link that was used, replaced, or is too old."""
    if linked(session, token, now) is None:
        raise _useless()


def follow(session: Session, token: str, account: Account, password: str, now: datetime) -> Account:
    """Set the password, given as its digest, of the account that the link belongs to, and use the link up.

    ``account`` is who becomes the first admin, and counts for the first link only.
    Raises :class:`~gatewaykit.errors.NotFound` for a link that was used, replaced, or is too old.
    """
    take_turn(session)
    used = session.execute(
        delete(SetupLinkRow)
        .where(SetupLinkRow.digest == digest(token, LINK), SetupLinkRow.ends > now)
        .returning(SetupLinkRow.account)
    ).first()
    if used is None:
        raise _useless()
    (account_id,) = used
    if account_id is None:
        if has_admin(session):
            raise _useless()
        found, actor = _first_admin(session, account), SETUP
    else:
        row = session.get(AccountRow, account_id)
        if row is None or not row.enabled:
            raise _useless()
        found, actor = account_of(row), Actor(f"user:{account_id}")
    set_password(session, actor, found.id, password, now)
    return found


def is_invited(session: Session, account_id: str, now: datetime) -> bool:
    """Whether there is a link for the account that can be followed."""
    query = select(exists().where(SetupLinkRow.account == account_id, SetupLinkRow.ends > now))
    return bool(session.scalar(query))


def _first_admin(session: Session, account: Account) -> Account:
    row = session.get(AccountRow, account.id)
    if row is None:
        return put_account(session, SETUP, account)
    return change_account(session, SETUP, account.id, AccountChanges(role="admin", enabled=True))


def _made(session: Session, account_id: str | None, now: datetime) -> str:
    ours = SetupLinkRow.account.is_(None) if account_id is None else SetupLinkRow.account == account_id
    session.execute(delete(SetupLinkRow).where(ours | (SetupLinkRow.ends <= now)))
    token = new_token(LINK)
    session.add(SetupLinkRow(digest=digest(token, LINK), account=account_id, created=now, ends=now + LIFE))
    session.flush()
    return token


def _useless() -> NotFound:
    return NotFound("This link was used already, or is too old.")
