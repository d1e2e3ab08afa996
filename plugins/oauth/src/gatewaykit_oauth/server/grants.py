"""Grants and the tokens of each, on a session of the database: what is issued, and how it ends.

A grant ends with everything that it gave: by its account, by an admin, by the client, or because a code or a refresh
token was used twice. :func:`cut_off` ends all that an account or a client has, or all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from msgspec import Struct
from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session

from gatewaykit.errors import NotFound, Unavailable

from ..ids import new_id
from ..keys.audit import record, take_turn
from ..keys.format import REFRESH
from ..keys.model import Actor
from ..keys.secrets import Secrets
from ..tables import AccountRow
from .model import REFRESH_TOKEN, Client, Issued
from .settings import OAuthSettings
from .tables import AccessTokenRow, ClientRow, CodeRow, CutoffRow, DeviceRow, GrantRow, RefreshTokenRow, SigningKeyRow

ALL = "all"


class Office(Struct, frozen=True):
    """What issuing needs: ``kid`` is that of the key with which access tokens will be signed."""

    secrets: Secrets
    settings: OAuthSettings
    kid: str
    now: datetime


class Wanted(Struct, frozen=True):
    """What a new grant is to be. ``account`` is None for a client that acts on its own."""

    account: str | None
    scopes: Sequence[str]
    resources: Sequence[str]
    access_seconds: int
    thumbprint: str | None = None
    auth_time: datetime | None = None


def open_grant(session: Session, actor: Actor, client: ClientRow, wanted: Wanted, office: Office) -> GrantRow:
    """Write a new grant; the transaction has its turn."""
    row = GrantRow(
        id=new_id("grant_"),
        client=client.id,
        account=wanted.account,
        scopes=list(wanted.scopes),
        resources=list(wanted.resources),
        access_seconds=wanted.access_seconds,
        thumbprint=wanted.thumbprint,
        auth_time=wanted.auth_time,
        created=office.now,
        expires=None if wanted.account is None else office.now + timedelta(seconds=office.settings.refresh_seconds),
    )
    session.add(row)
    client.last_used = office.now
    session.flush()
    after = {"client": client.id, "account": wanted.account, "scopes": row.scopes, "resources": row.resources}
    record(session, actor, "grant.create", f"grant:{row.id}", before=None, after=after, now=office.now)
    return row


def issue(
    session: Session,
    grant: GrantRow,
    client: ClientRow,
    office: Office,
    *,
    scopes: Sequence[str],
    audience: Sequence[str],
    thumbprint: str | None,
    refresh: bool = True,
) -> Issued:
    """Write down a new access token and, if the client may have one, a refresh token.

    Raises :class:`~gatewaykit.errors.Unavailable` when the key that is to sign was revoked just now.
    """
    _require_key(session, office)
    account = session.get(AccountRow, grant.account) if grant.account is not None else None
    owner = account or (session.get(AccountRow, client.owner) if client.owner is not None else None)
    issued, expires = int(office.now.timestamp()), _expires(grant, client, owner, office)
    jti = new_id()
    session.add(
        AccessTokenRow(
            jti=jti,
            grant=grant.id,
            kid=office.kid,
            scopes=list(scopes),
            audience=list(audience),
            issued=office.now,
            expires=datetime.fromtimestamp(expires, UTC),
        )
    )
    may_refresh = refresh and grant.account is not None and REFRESH_TOKEN in client.grants
    return Issued(
        jti=jti,
        grant=grant.id,
        client=client.id,
        account=grant.account,
        scopes=tuple(scopes),
        audience=tuple(audience),
        issued=issued,
        expires=expires,
        thumbprint=thumbprint,
        refresh_token=add_refresh_token(session, grant, office) if may_refresh else None,
        auth_time=None if grant.auth_time is None else int(grant.auth_time.timestamp()),
        name=account.name if account is not None else "",
    )


def _require_key(session: Session, office: Office) -> None:
    key = session.get(SigningKeyRow, office.kid)
    if key is not None and key.state == "revoked":
        raise Unavailable(retry_after=1.0, detail="the signing key was revoked, and the next one is not read yet")


def _expires(grant: GrantRow, client: ClientRow, owner: AccountRow | None, office: Office) -> int:
    """The unix time up to which a token of now may live, which is no longer than its grant."""
    longest = owner.longest_access_seconds if owner is not None else None
    expires = int(office.now.timestamp()) + min(grant.access_seconds, life(client, office.settings, longest))
    return expires if grant.expires is None else min(expires, int(grant.expires.timestamp()))


def add_refresh_token(session: Session, grant: GrantRow, office: Office) -> str:
    """Write down a new refresh token; its text is what this returns."""
    secret = office.secrets.new(REFRESH)
    idle = office.now + timedelta(seconds=office.settings.refresh_idle_seconds)
    ends = idle if grant.expires is None else min(idle, grant.expires)
    session.add(RefreshTokenRow(digest=secret.digest, grant=grant.id, issued=office.now, expires=ends, repeated=0))
    return secret.text


def life(client: ClientRow | Client, settings: OAuthSettings, longest: int | None = None) -> int:
    """For how many seconds the client's access tokens live: its own time, or the usual one, and no longer than an
    account may have them (``longest``) or anybody.
    """
    usual = min(client.access_seconds or settings.access_seconds, settings.longest_access_seconds)
    return usual if longest is None else min(usual, longest)


def usable(session: Session, grant: GrantRow, issued: datetime, now: datetime) -> ClientRow | None:
    """The client of a grant, if what was issued by the grant at ``issued`` is in force: nothing has ended it."""
    client = session.get(ClientRow, grant.client)
    if client is None:
        return None
    subjects = [ALL, f"client:{client.id}"]
    owner = owner_of(grant, client)
    account = session.get(AccountRow, owner) if owner is not None else None
    if owner is not None:
        subjects.append(f"user:{owner}")
    good = is_in_force(
        ended=grant.ended,
        expires=grant.expires,
        client_enabled=client.enabled,
        account_enabled=owner is None or (account is not None and account.enabled),
        cut_off=is_cut_off(session, subjects, issued),
        now=now,
    )
    return client if good else None


def is_in_force(
    *,
    ended: datetime | None,
    expires: datetime | None,
    client_enabled: bool,
    account_enabled: bool | None,
    cut_off: bool,
    now: datetime,
) -> bool:
    """Whether what a grant gave may still be used. An account that is not there is not enabled."""
    if ended is not None or (expires is not None and expires <= now):
        return False
    return client_enabled and bool(account_enabled) and not cut_off


def owner_of(grant: GrantRow, client: ClientRow) -> str | None:
    """The account for which a grant counts: who agreed to it, or on whose behalf the client acts."""
    return grant.account if grant.account is not None else client.owner


def is_cut_off(session: Session, subjects: Sequence[str], issued: datetime) -> bool:
    """Whether what was issued then is refused by one of the cut-offs of ``subjects``."""
    query = select(CutoffRow.subject).where(CutoffRow.subject.in_(subjects), CutoffRow.before >= issued).limit(1)
    return session.scalar(query) is not None


# Endings


def end_grant(session: Session, actor: Actor, grant_id: str, reason: str, now: datetime) -> bool:
    """End a grant with all its tokens; whether it was in force. The transaction has its turn."""
    query = update(GrantRow).where(GrantRow.id == grant_id, GrantRow.ended.is_(None))
    if not changed(session, query.values(ended=now, reason=reason)):
        return False
    after = {"reason": reason}
    record(session, actor, "grant.end", f"grant:{grant_id}", before=None, after=after, now=now)
    return True


def revoke_access_token(session: Session, actor: Actor, jti: str, now: datetime) -> bool:
    """End one access token; whether it was in force. The transaction has its turn."""
    query = update(AccessTokenRow).where(AccessTokenRow.jti == jti, AccessTokenRow.revoked.is_(None))
    if not changed(session, query.values(revoked=now)):
        return False
    record(session, actor, "token.revoke", f"token:{jti}", before=None, after=None, now=now)
    return True


def cut_off(session: Session, actor: Actor, subject: str, reason: str, now: datetime | None = None) -> None:
    """End everything that was issued to ``subject`` until now: ``user:ID``, ``client:ID``, or ``all``.

    A password that changed or an account that signs out everywhere is a reason. All grants that there are end, whatever
    the clock said by which they were made: it may go before ours.
    """
    take_turn(session)
    now = now or datetime.now(UTC)
    kind, _, name = subject.partition(":")
    known = session.get(CutoffRow, subject)
    session.merge(CutoffRow(subject=subject, before=now if known is None else max(now, known.before)))
    grants = update(GrantRow).where(GrantRow.ended.is_(None))
    codes, devices = delete(CodeRow), delete(DeviceRow)
    if kind == "user":
        own = select(ClientRow.id).where(ClientRow.owner == name)
        of_its_clients = GrantRow.account.is_(None) & GrantRow.client.in_(own)
        grants = grants.where((GrantRow.account == name) | of_its_clients)
        codes, devices = codes.where(CodeRow.account == name), devices.where(DeviceRow.account == name)
    elif kind == "client":
        grants = grants.where(GrantRow.client == name)
        codes, devices = codes.where(CodeRow.client == name), devices.where(DeviceRow.client == name)
    for statement in (grants.values(ended=now, reason=reason), codes, devices):
        session.execute(statement)
    record(session, actor, "tokens.cut_off", subject, before=None, after={"reason": reason}, now=now)


def require_subject(session: Session, subject: str) -> None:
    """Raise :class:`~gatewaykit.errors.NotFound` for an account or a client that does not exist."""
    kind, _, name = subject.partition(":")
    if kind != ALL and session.get(AccountRow if kind == "user" else ClientRow, name) is None:
        raise NotFound("There is nobody of this name.")


def changed(session: Session, statement: Any) -> int:
    """How many rows a conditional UPDATE or DELETE has changed: whoever changed the row is the only one who did."""
    return cast(
        "CursorResult[Any]", session.execute(statement, execution_options={"synchronize_session": False})
    ).rowcount
