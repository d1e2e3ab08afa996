"""What can be done with keys, on a session of the database. Every change leaves one line in the audit log and one in
the feed of changes, in the same transaction.

Keys that an actor does not manage (:func:`gatewaykit_oauth.keys.rights.manages`) do not exist for it. ``now`` is the
present moment unless it is given. A request with an idempotency key that was used in the last 24 hours changes nothing
and returns what there is now, without the secret: that was in the answer to the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from gatewaykit.errors import AuthFailed, BadRequest, NotFound
from gatewaykit.limits import Limit
from gatewaykit.types import Principal

from ..ids import new_id
from ..tables import AccountRow, KeyRow, SecretRow
from .audit import entries, record, take_turn
from .checks import LONGEST_GRACE, check_grace, check_idempotency_key, check_life, checked
from .listing import find
from .model import Actor, ApiKey, AuditEntry, Created, KeyChanges, KeyLimits, KeySpec, Page
from .repetitions import remember, repeated
from .rights import Holder, manages, require_covered, require_managing, require_whole
from .rows import as_keys, columns, described, is_usable, principal_of
from .secrets import NewSecret, Secrets

DEFAULT_GRACE = timedelta(hours=24)
_NEW = "new"
_FAR = 2**37
"""A moment, in unix time, that is still one for the calendar."""

DEFAULT_LIFETIME = timedelta(days=90)
__all__ = [
    "DEFAULT_GRACE",
    "LONGEST_GRACE",
    "audit",
    "create",
    "cut",
    "find",
    "get",
    "revoke",
    "rotate",
    "set_enabled",
    "update",
]


def usual_lifetime(longest: timedelta | None) -> timedelta:
    """How long a key lives of which nobody said it, where the configuration has such a bound."""
    return DEFAULT_LIFETIME if longest is None else min(DEFAULT_LIFETIME, longest)


def get(session: Session, key_id: str) -> ApiKey:
    """The key. Raises :class:`~gatewaykit.errors.NotFound`."""
    row = session.get(KeyRow, key_id)
    if row is None:
        raise _unknown()
    return _shown(session, row, datetime.now(UTC))


def create(
    session: Session,
    actor: Actor,
    spec: KeySpec,
    *,
    secrets: Secrets,
    lifetime: timedelta | None = None,
    longest: timedelta | None = None,
    now: datetime | None = None,
    idempotency_key: str | None = None,
) -> Created:
    """Make a key. ``lifetime`` is for one whose ``spec`` names no end; it is shorter where its maker ends earlier.
    ``longest`` is the configuration's bound for all.

    Raises :class:`~gatewaykit.errors.PermissionDenied` when it would allow more than its maker may, and
    :class:`~gatewaykit.errors.BadRequest` for a field that is wrong.
    """
    now = now or datetime.now(UTC)
    spec = checked(spec, now)
    take_turn(session)
    asked = msgspec.json.encode((spec, lifetime))
    if (known := _repeated(session, actor, "key.create", idempotency_key, asked, now)) is not None:
        return Created(known, None)
    if lifetime is not None and spec.expires is None:
        spec = msgspec.structs.replace(spec, expires=_end(session, actor, now + lifetime, now))
    check_life(spec.expires, longest, now)
    _require_covered(session, actor, spec, now)
    secret = secrets.new()
    row = KeyRow(
        id=new_id("key_"),
        **columns(spec, KeySpec.__struct_fields__),
        created=now,
        created_by=actor.id,
        enabled=True,
        version=0,
    )
    session.add(row)
    session.flush()
    _add_secret(session, row, secret, secrets, now)
    key = _recorded(session, actor, "key.create", row, None, now)
    if idempotency_key is not None:
        remember(session, actor, "key.create", idempotency_key, asked, key.id, now)
    return Created(key, secret.text)


def update(
    session: Session,
    actor: Actor,
    key_id: str,
    changes: KeyChanges,
    *,
    longest: timedelta | None = None,
    now: datetime | None = None,
) -> ApiKey:
    """Change what a key may do or what it is called.

    Neither the old nor the new key may allow more than the actor may: :class:`~gatewaykit.errors.PermissionDenied`.
    """
    now = now or datetime.now(UTC)
    row, before = _managed(session, actor, key_id, now)
    _refuse_revoked(before)
    wanted = changes.applied(before.spec)
    if wanted.expires == before.expires:  # one that has passed may stay as it is
        wanted = msgspec.structs.replace(
            checked(msgspec.structs.replace(wanted, expires=None), now), expires=before.expires
        )
    else:
        wanted = checked(wanted, now)
        check_life(wanted.expires, longest, now)
    _require_covered(session, actor, before.spec, now, before)
    _require_covered(session, actor, wanted, now, before)
    if wanted == before.spec:
        return before
    for name, value in columns(wanted, KeySpec.__struct_fields__).items():
        setattr(row, name, value)
    return _recorded(session, actor, "key.update", row, before, now)


def set_enabled(session: Session, actor: Actor, key_id: str, enabled: bool, *, now: datetime | None = None) -> ApiKey:
    """Switch a key off, or on again."""
    now = now or datetime.now(UTC)
    row, before = _managed(session, actor, key_id, now)
    _refuse_revoked(before)
    if enabled:
        _require_covered(session, actor, before.spec, now, before)
    if row.enabled == enabled:
        return before
    row.enabled = enabled
    return _recorded(session, actor, "key.enable" if enabled else "key.disable", row, before, now)


def revoke(session: Session, actor: Actor, key_id: str, *, now: datetime | None = None) -> ApiKey:
    """End a key for good. Again, it does nothing."""
    now = now or datetime.now(UTC)
    row, before = _managed(session, actor, key_id, now)
    if row.revoked is not None:
        return before
    row.revoked = now
    for secret in _in_force(session, row, now):
        secret.ends = now
    return _recorded(session, actor, "key.revoke", row, before, now)


def revoke_many(
    session: Session, actor: Actor, ids: Sequence[str], owner: str | None = None, *, now: datetime | None = None
) -> tuple[ApiKey, ...]:
    """End these keys, or all that an owner has in force; one that cannot be ended keeps all of them as they are.

    They end in the order of their ids, as others lock them; the actor's own is the last, for without it nothing can be
    done any more.
    """
    take_turn(session)
    if owner is not None:
        if session.get(AccountRow, owner) is None:
            raise NotFound("There is no such account.")
        ids = session.scalars(select(KeyRow.id).where(KeyRow.owner == owner, KeyRow.revoked.is_(None))).all()
    in_order = sorted(set(ids), key=lambda key_id: (key_id == actor.id, key_id))
    revoked = {key_id: revoke(session, actor, key_id, now=now) for key_id in in_order}
    return tuple(revoked[key_id] for key_id in dict.fromkeys(ids))


def rotate(
    session: Session,
    actor: Actor,
    key_id: str,
    *,
    grace: timedelta = DEFAULT_GRACE,
    idempotency_key: str | None = None,
    secrets: Secrets,
    now: datetime | None = None,
) -> Created:
    """Give a key a new secret. The earlier ones stay valid for ``grace``, 0 seconds to 30 days, or as long as they
    would have been if that is shorter. Id, limits and what was used stay.
    """
    now = now or datetime.now(UTC)
    check_grace(grace)
    row, before = _managed(session, actor, key_id, now)
    asked = f"{key_id} {grace.total_seconds()}".encode()
    if (known := _repeated(session, actor, "key.rotate", idempotency_key, asked, now)) is not None:
        return Created(known, None)
    _refuse_revoked(before)
    _require_covered(session, actor, before.spec, now, before)
    for secret in _in_force(session, row, now):
        secret.ends = min(secret.ends or now + grace, now + grace)
    new = secrets.new()
    _add_secret(session, row, new, secrets, now)
    key = _recorded(session, actor, "key.rotate", row, before, now)
    if idempotency_key is not None:
        remember(session, actor, "key.rotate", idempotency_key, asked, key_id, now)
    return Created(key, new.text)


def cut(session: Session, actor: Actor, key_id: str, *, now: datetime | None = None) -> ApiKey:
    """End all secrets of a key but the newest, at once."""
    now = now or datetime.now(UTC)
    row, before = _managed(session, actor, key_id, now)
    older = _in_force(session, row, now)[1:]
    if not older:
        return before
    for secret in older:
        secret.ends = now
    return _recorded(session, actor, "key.cut", row, before, now)


def audit(
    session: Session,
    *,
    key_id: str | None = None,
    actor: str | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[AuditEntry]:
    """What was done, the newest first: to one key or account, by one actor, or all."""
    return entries(session, object_id=key_id, actor=actor, after=after, limit=limit)


# Who may


def _managed(session: Session, actor: Actor, key_id: str, now: datetime) -> tuple[KeyRow, ApiKey]:
    """The key, if the actor manages it, in the turn of this transaction."""
    take_turn(session)
    row = session.get(KeyRow, key_id)
    holder = holder_of(session, actor, now)
    if holder is not None:
        require_managing(holder)
    if row is None or not manages(actor, row.owner):
        raise _unknown()
    return row, _shown(session, row, now)


def _require_covered(session: Session, actor: Actor, spec: KeySpec, now: datetime, known: ApiKey | None = None) -> None:
    """Raise unless the actor may have a key like this, made anew or of one that is ``known``. Of accounts that are not
    its own it hears nothing.
    """
    holder = holder_of(session, actor, now)
    account = session.get(AccountRow, spec.owner) if spec.owner is not None else None
    if holder is not None:
        require_managing(holder)
        is_own = account is not None and account.id == holder.principal.owner
        limits = _limits_of(actor, spec, known, account if is_own else None)
        if holder.is_person and known is not None and known.limits == spec.limits:
            holder = msgspec.structs.replace(holder, limits=holder.principal.limits)  # who gave them knew what to give
        require_covered(holder, spec, limits)
    if spec.owner is not None and account is None:
        raise BadRequest("There is no such account.", param="owner")


def require_unbound(session: Session, actor: Actor, now: datetime) -> None:
    """Raise :class:`~gatewaykit.errors.PermissionDenied` for a key that is bound: what it makes beside keys is not."""
    holder = holder_of(session, actor, now)
    if holder is not None:
        require_whole(holder)


def _limits_of(actor: Actor, spec: KeySpec, known: ApiKey | None, account: AccountRow | None) -> Sequence[Limit]:
    """What such a key of this account would be under. Other accounts do not count: who makes a key there may be able
    to change them, too.
    """
    key_id = _NEW if known is None else known.id
    limits = spec.limits.limits(f"key:{key_id}")
    if account is None:
        return actor.under(Principal(key_id, limits=limits))
    limits += msgspec.convert(account.limits, KeyLimits).limits(f"user:{account.id}")
    return actor.under(Principal(key_id, owner=account.id, limits=limits))


def holder_of(session: Session, actor: Actor, now: datetime) -> Holder | None:
    """What the actor holds now: of a key, what stands in the database, and not what was remembered of it. None for the
    machine's operator. Raises :class:`~gatewaykit.errors.AuthFailed` for a key that is not in force any more.
    """
    principal = actor.principal
    if principal is None:
        return None
    if not principal.id.startswith("key_"):
        ends = principal.claims.get("exp")  # RFC 7519, 4.1.4; another plugin's may be anything
        expires = datetime.fromtimestamp(min(max(ends, 0), _FAR), UTC) if isinstance(ends, int) else None
        return Holder(principal, expires=expires, limits=tuple(actor.under(principal)))
    row = session.get(KeyRow, principal.id)
    account = session.get(AccountRow, row.owner) if row is not None and row.owner is not None else None
    if row is None or not is_usable(row, account, now):
        raise AuthFailed("This API key is not valid.")
    principal = principal_of(row, account)
    return Holder(principal, tuple(row.networks), row.expires, tuple(actor.under(principal)))


# Steps


def _end(session: Session, actor: Actor, moment: datetime, now: datetime) -> datetime:
    """``moment``, or when the actor's own key ends, if that is earlier."""
    holder = holder_of(session, actor, now)
    return min(moment, holder.expires) if holder is not None and holder.expires is not None else moment


def _repeated(
    session: Session, actor: Actor, action: str, idempotency_key: str | None, asked: bytes, now: datetime
) -> ApiKey | None:
    if idempotency_key is None:
        return None
    check_idempotency_key(idempotency_key)
    key_id = repeated(session, actor, action, idempotency_key, asked, now)
    return None if key_id is None else get(session, key_id)


def _add_secret(session: Session, row: KeyRow, new: NewSecret, secrets: Secrets, now: datetime) -> None:
    session.add(SecretRow(key_id=row.id, digest=new.digest, pepper=secrets.current, hint=new.hint, created=now))


def _in_force(session: Session, row: KeyRow, now: datetime) -> list[SecretRow]:
    """The newest first."""
    query = select(SecretRow).where(SecretRow.key_id == row.id).order_by(SecretRow.id.desc())
    return [secret for secret in session.scalars(query) if secret.ends is None or secret.ends > now]


def _recorded(session: Session, actor: Actor, action: str, row: KeyRow, before: ApiKey | None, now: datetime) -> ApiKey:
    row.version += 1
    session.flush()
    key = _shown(session, row, now)
    record(
        session,
        actor,
        action,
        f"key:{key.id}",
        before=None if before is None else described(before),
        after=described(key),
        now=now,
    )
    return key


def _shown(session: Session, row: KeyRow, now: datetime) -> ApiKey:
    (key,) = as_keys(session, [row], now)
    return key


def _refuse_revoked(key: ApiKey) -> None:
    if key.revoked is not None:
        raise BadRequest("This key was revoked, and that is final.")


def _unknown() -> NotFound:
    return NotFound("There is no such key.")
