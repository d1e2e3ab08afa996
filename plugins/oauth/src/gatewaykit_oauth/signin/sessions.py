"""Sessions: who is signed in at which browser, kept in the database and found by the digest of the cookie's token."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Database

from gatewaykit.errors import NotFound
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE, Principal

from ..accounts import account_of
from ..ids import new_id
from ..keys.model import Account, Actor
from ..tables import AccountRow, SessionRow
from .tokens import SESSION, digest, new_token

PENDING = timedelta(minutes=10)
"""How long the second factor may take."""

_SEEN_EVERY = timedelta(minutes=1)
_LONGEST_AGENT = 200


class Lives(Struct, frozen=True):
    """When a session ends: after some time without a request, and after some time whatever happens."""

    idle: timedelta
    absolute: timedelta


class Session(Struct, frozen=True, kw_only=True):
    """Somebody who is signed in. ``token`` is that of the cookie; ``authenticated`` is when a password was given last.

    ``pending`` ones lack the second factor: they are nobody yet.
    """

    id: str
    account: Account
    pending: bool
    created: datetime
    authenticated: datetime
    seen: datetime
    ends: datetime
    address: str | None
    agent: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Session({self.id})"

    @property
    def is_admin(self) -> bool:
        """Whether everything may be managed."""
        return self.account.role == "admin"

    @property
    def principal(self) -> Principal:
        """What the person may do. Of an admin nothing is limited; a member holds what the account has."""
        account = self.account
        subject = f"user:{account.id}"
        scopes = frozenset({INFERENCE, USAGE, KEYS})
        if self.is_admin:
            return Principal(subject, account.name, owner=account.id, scopes=scopes | {ADMIN})
        return Principal(
            id=subject,
            name=account.name,
            owner=account.id,
            models=account.models,
            scopes=scopes,
            limits=account.limits.limits(subject),
        )

    def is_fresh(self, now: datetime, within: timedelta) -> bool:
        """Whether the password was given lately, as what matters most wants it."""
        return now - self.authenticated < within


def begin(
    database: Database,
    account: Account,
    lives: Lives,
    *,
    pending: bool,
    address: str | None,
    agent: str,
    now: datetime,
    authenticated: datetime | None = None,
) -> Session:
    """A new session, with a new token. Sessions that are over are forgotten."""
    database.execute(delete(SessionRow).where(SessionRow.ends <= now))
    token = new_token(SESSION)
    row = SessionRow(
        digest=_digest(token),
        id=new_id("ses_"),
        account=account.id,
        pending=pending,
        created=now,
        authenticated=authenticated or now,
        seen=now,
        ends=now + (PENDING if pending else lives.absolute),
        address=address,
        agent="".join(letter for letter in agent if letter.isprintable())[:_LONGEST_AGENT],
    )
    database.add(row)
    database.flush()
    return _session(row, account, token)


def find(database: Database, token: str, lives: Lives, now: datetime) -> Session | None:
    """The session of a cookie, if it is in force and its account is enabled."""
    wanted = digest(token, SESSION)
    if wanted is None:
        return None
    query = select(SessionRow, AccountRow).join(AccountRow, AccountRow.id == SessionRow.account)
    found = database.execute(query.where(SessionRow.digest == wanted)).first()
    if found is None:
        return None
    row, account = found
    if row.ends <= now or row.seen + lives.idle <= now or not account.enabled or account.kind != "user":
        return None
    return _session(row, account_of(account), token)


def is_due(session: Session, now: datetime) -> bool:
    """Whether it is time to note that the session is in use."""
    return now - session.seen >= _SEEN_EVERY


def touch(database: Database, session: Session, address: str | None, now: datetime) -> None:
    """The session is in use."""
    row = database.get(SessionRow, _digest(session.token))
    if row is not None and row.seen < now:
        row.seen, row.address = now, address


def renew(database: Database, session: Session, lives: Lives, now: datetime) -> Session | None:
    """The same person under a new token, who has just proved who it is; None if the session ended meanwhile."""
    row = database.get(SessionRow, _digest(session.token), with_for_update=True)
    if row is None:
        return None
    token = new_token(SESSION)
    row.digest, row.authenticated, row.seen = _digest(token), now, now
    if row.pending:
        row.pending, row.ends = False, now + lives.absolute
    database.flush()
    return _session(row, session.account, token)


def of_account(database: Database, account_id: str, lives: Lives, now: datetime) -> list[Session]:
    """The sessions in force of one account, those used last first."""
    query = select(SessionRow, AccountRow).join(AccountRow, AccountRow.id == SessionRow.account)
    query = query.where(SessionRow.account == account_id, SessionRow.ends > now, ~SessionRow.pending)
    rows = database.execute(query.order_by(SessionRow.seen.desc()))
    return [_session(row, account_of(account)) for row, account in rows if row.seen + lives.idle > now]


def drop(database: Database, token: str | None) -> None:
    """End the session of a cookie, whatever its state."""
    wanted = digest(token or "", SESSION)
    if wanted is not None:
        database.execute(delete(SessionRow).where(SessionRow.digest == wanted))


def end(database: Database, account_id: str, session_id: str) -> None:
    """End one session of the account. Raises :class:`~gatewaykit.errors.NotFound`."""
    ended = database.execute(
        delete(SessionRow).where(SessionRow.id == session_id, SessionRow.account == account_id).returning(SessionRow.id)
    )
    if ended.first() is None:
        raise NotFound("There is no such session.")


def end_all(database: Database, account_id: str, but: str | None = None) -> int:
    """End all sessions of the account, but one; how many there were."""
    query = delete(SessionRow).where(SessionRow.account == account_id)
    if but is not None:
        query = query.where(SessionRow.id != but)
    return len(database.execute(query.returning(SessionRow.id)).all())


def actor(session: Session, request_id: str, client: str | None) -> Actor:
    """Who acts, as the audit log will tell it."""
    return Actor(session.principal.id, session.principal, request_id, client)


def _digest(token: str) -> bytes:
    found = digest(token, SESSION)
    if found is None:
        raise ValueError("not the token of a session")
    return found


def _session(row: SessionRow, account: Account, token: str = "") -> Session:
    return Session(
        id=row.id,
        account=account,
        pending=row.pending,
        created=row.created,
        authenticated=row.authenticated,
        seen=row.seen,
        ends=row.ends,
        address=row.address,
        agent=row.agent,
        token=token,
    )
