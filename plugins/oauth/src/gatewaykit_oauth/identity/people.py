"""From what a provider says of somebody to an account, on a session of the database.

An account belongs to the person (``sub``) who came first under its name. The name may later be given to somebody else
at the provider, who then does not get the account.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, NotFound

from ..accounts import account_of, get_account, put_account
from ..keys.account_changes import AccountChanges, change_account
from ..keys.audit import record, take_turn
from ..keys.checks import check_account_id
from ..keys.model import Account, Actor, Role
from ..tables import AccountRow, IdentityRow
from .failures import NotAllowed
from .settings import Claims, IdentityProviderSettings

FRESH = timedelta(minutes=5)
"""How long ago somebody may have proved at the provider who they are, where it is asked for once more."""

_LONGEST_NAME = 100


def account_for(
    session: Session, name: str, settings: IdentityProviderSettings, claims: Mapping[str, Any], now: datetime
) -> Account:
    """The account of whoever these claims are about; made and linked at the first time, where that is allowed.

    Raises :class:`~.failures.NotAllowed`.
    """
    require_welcome(settings, claims)
    take_turn(session)
    actor = Actor(f"identity:{name}")
    row = session.get(IdentityRow, (settings.issuer, claims["sub"]), with_for_update=True)
    if row is None:
        row = _linked(session, actor, settings, claims, now)
    row.last_used = now
    account = session.get(AccountRow, row.account)
    if account is None or not account.enabled or account.kind != "user":
        raise NotAllowed("the account is disabled, or a service's")
    role = _role(settings.admins, claims)
    if role is not None and role != account.role:
        return change_account(session, actor, account.id, AccountChanges(role=role))
    return account_of(account)


def require_welcome(settings: IdentityProviderSettings, claims: Mapping[str, Any]) -> None:
    """Raise :class:`~.failures.NotAllowed` for somebody who may not sign in, whatever account they have."""
    if settings.domains and _email(claims).rpartition("@")[2] not in settings.domains:
        raise NotAllowed("the e-mail address is of another domain")
    for claim, values in settings.require.items():
        if not _has(claims, claim, values):
            raise NotAllowed(f"the claim {claim} has not the right value")


def authenticated(claims: Mapping[str, Any], now: datetime) -> datetime:
    """When the person proved at the provider who they are; as far as it does not say, now."""
    given = claims.get("auth_time")
    return now if given is None else datetime.fromtimestamp(max(0, min(given, int(now.timestamp()))), UTC)


def require_proved_again(claims: Mapping[str, Any], now: datetime) -> None:
    """Raise :class:`~.failures.NotAllowed` unless the provider says that the person has just proved who they are."""
    if "auth_time" not in claims or now - authenticated(claims, now) > FRESH:
        raise NotAllowed("the provider does not say that it asked once more")


def unlink(session: Session, actor: Actor, account_id: str, now: datetime) -> int:
    """Forget who at which provider the account belongs to; from how many."""
    take_turn(session)
    get_account(session, account_id)
    found = session.execute(delete(IdentityRow).where(IdentityRow.account == account_id).returning(IdentityRow.issuer))
    issuers = sorted(issuer for (issuer,) in found)
    if issuers:
        record(
            session, actor, "identity.unlink", f"user:{account_id}", before={"issuers": issuers}, after=None, now=now
        )
    return len(issuers)


def _linked(
    session: Session, actor: Actor, settings: IdentityProviderSettings, claims: Mapping[str, Any], now: datetime
) -> IdentityRow:
    account_id = _account_id(settings, claims)
    try:
        check_account_id(account_id, "id")
        get_account(session, account_id)
    except BadRequest:
        raise NotAllowed("what it is called there cannot be an account's id") from None
    except NotFound:
        _make(session, actor, settings, account_id, claims, now)
    taken = select(IdentityRow.subject).where(IdentityRow.issuer == settings.issuer, IdentityRow.account == account_id)
    if session.scalar(taken.limit(1)) is not None:
        raise NotAllowed("the account is somebody else's at this provider")
    row = IdentityRow(issuer=settings.issuer, subject=claims["sub"], account=account_id, created=now, last_used=now)
    session.add(row)
    after = {"issuer": settings.issuer, "subject": claims["sub"]}
    record(session, actor, "identity.link", f"user:{account_id}", before=None, after=after, now=now)
    return row


def _make(
    session: Session,
    actor: Actor,
    settings: IdentityProviderSettings,
    account_id: str,
    claims: Mapping[str, Any],
    now: datetime,
) -> None:
    if not settings.create:
        raise NotAllowed("there is no such account, and none is made")
    given = claims.get("name")
    name = given if isinstance(given, str) and given.isprintable() and len(given) <= _LONGEST_NAME else ""
    put_account(session, actor, Account(id=account_id, name=name.strip()), now=now)


def _account_id(settings: IdentityProviderSettings, claims: Mapping[str, Any]) -> str:
    if settings.account_claim == "email":
        return _email(claims)
    given = claims.get(settings.account_claim)
    if not isinstance(given, str) or not given:
        raise NotAllowed(f"the claim {settings.account_claim} is missing")
    return given


def _email(claims: Mapping[str, Any]) -> str:
    """The e-mail address, in lower case, if the provider has verified that it is the person's.

    One with other letters than ASCII is none: some of them become ASCII in lower case, and so another's address.
    """
    given, verified = claims.get("email"), claims.get("email_verified")
    if not isinstance(given, str) or not given.isascii() or given.count("@") != 1:
        raise NotAllowed("there is no e-mail address")
    if verified is not True and verified != "true":
        raise NotAllowed("the e-mail address is not verified")
    return given.lower()


def _role(admins: Claims, claims: Mapping[str, Any]) -> Role | None:
    if not admins:
        return None
    return "admin" if any(_has(claims, claim, values) for claim, values in admins.items()) else "member"


def _has(claims: Mapping[str, Any], claim: str, values: tuple[str, ...]) -> bool:
    given = claims.get(claim)
    found = given if isinstance(given, list) else [given]
    return any(isinstance(one, str) and one in values for one in found)
