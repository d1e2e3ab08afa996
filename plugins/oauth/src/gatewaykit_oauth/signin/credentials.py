"""What people sign in with, in the database: changing it ends what was begun with it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import delete
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest, NotFound

from ..keys.audit import record, take_turn
from ..keys.model import Actor
from ..keys.secrets import Secrets
from ..server.grants import cut_off
from ..tables import AccountRow, CredentialsRow, SetupLinkRow
from .factors import new_recovery_codes, recovery_digest, step_of
from .sealing import FACTOR, seal, unseal
from .sessions import end_all


class Credentials(Struct, frozen=True):
    """What is known of how an account signs in. ``password`` is a digest, ``recovery`` how many codes are left."""

    password: str
    changed: datetime
    has_factor: bool
    recovery: int

    def __repr__(self) -> str:
        return "Credentials()"


def credentials_of(session: Session, account_id: str, *, held: bool = False) -> Credentials | None:
    """Those of the account; None if it cannot sign in: unknown, disabled, a service, or without a password. While they
    are ``held`` nobody changes them.
    """
    row = session.get(CredentialsRow, account_id, with_for_update=held)
    account = session.get(AccountRow, account_id)
    if account is None or row is None or not account.enabled or account.kind != "user":
        return None
    return Credentials(row.password, row.changed, row.factor is not None, len(row.recovery))


def has_factor(session: Session, account_id: str) -> bool:
    """Whether a second factor is asked of the account, however it proves the first."""
    row = session.get(CredentialsRow, account_id)
    return row is not None and row.factor is not None


def set_password(
    session: Session, actor: Actor, account_id: str, password: str, now: datetime, *, session_id: str | None = None
) -> None:
    """Set the password, given as its digest. All sessions end but ``session_id``; links to set it are void."""
    take_turn(session)
    row = session.get(CredentialsRow, account_id)
    if row is None:
        session.add(CredentialsRow(account=account_id, password=password, changed=now, factor_step=0, recovery=[]))
    else:
        row.password, row.changed = password, now
    session.execute(delete(SetupLinkRow).where(SetupLinkRow.account == account_id))
    end_all(session, account_id, but=session_id)
    cut_off(session, actor, f"user:{account_id}", "the password was changed", now)
    _record(session, actor, "account.password", account_id, now)


def renew_digest(session: Session, account_id: str, known: str, renewed: str) -> None:
    """Keep the same password in a newer way, unless it was changed meanwhile."""
    row = session.get(CredentialsRow, account_id, with_for_update=True)
    if row is not None and row.password == known:
        row.password = renewed


def set_factor(
    session: Session, actor: Actor, account_id: str, secret: str, code: str, secrets: Secrets, now: datetime
) -> list[str]:
    """Ask for one-time codes from now on; ``code`` proves that they can be made. Returns the recovery codes.

    Raises :class:`~gatewaykit.errors.BadRequest` for a wrong code. All other sessions stay.
    """
    take_turn(session)
    row = _locked(session, account_id)
    if row.factor is not None:
        raise BadRequest("There is a second factor already.")
    step = step_of(secret, code, now, after=0)
    if step is None:
        raise BadRequest("This is not the code of now.", param="code")
    row.factor, row.factor_step = seal(secrets, FACTOR, secret), step
    codes = new_recovery_codes()
    row.recovery = [recovery_digest(secrets, one)[0] for one in codes]
    _record(session, actor, "account.factor.add", account_id, now)
    return codes


def remove_factor(session: Session, actor: Actor, account_id: str, now: datetime) -> None:
    """Ask for the password alone."""
    take_turn(session)
    row = _locked(session, account_id)
    if row.factor is None:
        return
    row.factor, row.factor_step, row.recovery = None, 0, []
    _record(session, actor, "account.factor.remove", account_id, now)


def use_code(session: Session, account_id: str, code: str, secrets: Secrets, now: datetime) -> bool:
    """Whether ``code`` is that of now or a recovery code; either works once (RFC 6238, 5.2).

    A code of now also passes the factor on to the current pepper.
    """
    row = _locked(session, account_id)
    secret = None if row.factor is None else unseal(secrets, FACTOR, row.factor)
    if secret is None:
        return False
    if (step := step_of(secret, code, now, after=row.factor_step)) is not None:
        row.factor, row.factor_step = seal(secrets, FACTOR, secret), step
        return True
    known = set(recovery_digest(secrets, code)) & set(row.recovery)
    row.recovery = [one for one in row.recovery if one not in known]
    return bool(known)


def _locked(session: Session, account_id: str) -> CredentialsRow:
    row = session.get(CredentialsRow, account_id, with_for_update=True)
    if row is None:
        raise NotFound("This account has no password.")
    return row


def _record(session: Session, actor: Actor, action: str, account_id: str, now: datetime) -> None:
    record(session, actor, action, f"user:{account_id}", before=None, after=None, now=now)
