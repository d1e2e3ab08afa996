"""Between the tables and the words: keys as they are shown, and keys as they are recognised."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from gatewaykit.protocols import Network
from gatewaykit.types import Principal

from ..changes.feed import newest_change
from ..tables import AccountRow, KeyRow, SecretRow
from .globs import common
from .model import ApiKey, KeyLimits, SecretInfo


class Entry(msgspec.Struct, frozen=True, eq=False):
    """A key that may be used: who it is, from where, and until which moment (unix time, infinite for ever).

    ``subjects`` are what it depends on, as the feed of changes calls them.
    """

    principal: Principal
    networks: tuple[Network, ...]
    ends: float
    subjects: tuple[str, ...]


class Found(msgspec.Struct, frozen=True):
    """What the database knows of a digest, at the feed's number ``seq`` or later.

    ``entry`` is None when there is no such key, or it may not be used. ``outdated`` is the id of the secret if its
    digest was made by another than the current pepper.
    """

    seq: int
    entry: Entry | None = None
    outdated: int | None = None


# As they are recognised


def recognise(session: Session, digests: Sequence[bytes], now: datetime) -> Found:
    """Find the key of a secret, given its digest by each pepper, the current one first."""
    seq = newest_change(session)  # first: what is read after it can only be newer
    query = (
        select(SecretRow, KeyRow, AccountRow)
        .join(KeyRow, KeyRow.id == SecretRow.key_id)
        .outerjoin(AccountRow, AccountRow.id == KeyRow.owner)
        .where(SecretRow.digest.in_(digests))
    )
    found = session.execute(query).first()
    if found is None:
        return Found(seq)
    secret, key, account = cast("tuple[SecretRow, KeyRow, AccountRow | None]", found)
    ends = min((moment for moment in (secret.ends, key.expires) if moment is not None), default=None)
    if not is_usable(key, account, now) or (ends is not None and ends <= now):
        return Found(seq)
    subjects = (f"key:{key.id}",) if account is None else (f"key:{key.id}", f"user:{account.id}")
    until = math.inf if ends is None else ends.timestamp()
    entry = Entry(principal_of(key, account), networks_of(key), until, subjects)
    return Found(seq, entry, None if secret.digest == digests[0] else secret.id)


def is_usable(key: KeyRow, account: AccountRow | None, now: datetime) -> bool:
    """Whether the key and its owner are in force."""
    in_time = key.expires is None or key.expires > now
    owned = account.enabled if account is not None else key.owner is None
    return key.enabled and key.revoked is None and in_time and owned


def principal_of(key: KeyRow, account: AccountRow | None) -> Principal:
    """What both the key and its owner allow, under the limits of both."""
    models = tuple(key.models)
    limits = _limits(key.limits).limits(f"key:{key.id}")
    if account is not None:
        models = common(models, tuple(account.models))
        limits = (*limits, *_limits(account.limits).limits(f"user:{account.id}"))
    return Principal(
        id=key.id,
        name=key.name,
        owner=key.owner or "",
        models=models,
        routes=tuple(key.routes),
        scopes=frozenset(key.scopes),
        limits=limits,
    )


def networks_of(key: KeyRow) -> tuple[Network, ...]:
    """From where the key may be used; from anywhere, if there are none."""
    return tuple(ipaddress.ip_network(network) for network in key.networks)


def renew_digest(session: Session, secret_id: int, old: Sequence[bytes], new: bytes, pepper: str) -> None:
    """Replace the digest of a secret, which must still be one of ``old``."""
    values = {"digest": new, "pepper": pepper}
    session.execute(update(SecretRow).where(SecretRow.id == secret_id, SecretRow.digest.in_(old)).values(values))


def peppers_in_use(session: Session) -> dict[str, int]:
    """How many secrets were digested with each pepper, by its id: at 0, an old one can be forgotten."""
    counted = session.execute(select(SecretRow.pepper, func.count()).group_by(SecretRow.pepper))
    return {pepper: count for pepper, count in counted}  # noqa: C416 - rows are no pairs to a type checker


# As they are shown


def as_keys(session: Session, rows: Sequence[KeyRow], now: datetime) -> tuple[ApiKey, ...]:
    """Keys with their secrets in force."""
    query = select(SecretRow).where(SecretRow.key_id.in_([row.id for row in rows])).order_by(SecretRow.id.desc())
    secrets: dict[str, list[SecretRow]] = {}
    for secret in session.scalars(query):
        secrets.setdefault(secret.key_id, []).append(secret)
    return tuple(_key(row, secrets.get(row.id, []), now) for row in rows)


def _key(row: KeyRow, secrets: Sequence[SecretRow], now: datetime) -> ApiKey:
    in_force = [secret for secret in secrets if secret.ends is None or secret.ends > now]
    return ApiKey(
        id=row.id,
        name=row.name,
        owner=row.owner,
        scopes=tuple(row.scopes),
        models=tuple(row.models),
        routes=tuple(row.routes),
        networks=tuple(row.networks),
        expires=row.expires,
        limits=_limits(row.limits),
        note=row.note,
        created=row.created,
        created_by=row.created_by,
        enabled=row.enabled,
        revoked=row.revoked,
        last_used=row.last_used,
        last_used_from=row.last_used_from,
        hint=secrets[0].hint if secrets else "",
        secrets=tuple(SecretInfo(secret.hint, secret.created, secret.ends) for secret in in_force),
        version=row.version,
    )


def described(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as the audit log keeps it."""
    document: dict[str, Any] = msgspec.to_builtins(struct, enc_hook=str)
    return document


def columns(struct: msgspec.Struct, names: Iterable[str]) -> dict[str, Any]:
    """Fields of a struct as columns: tuples are lists, limits a document."""
    return {name: _column(getattr(struct, name)) for name in names}


def _column(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return msgspec.to_builtins(value)


def _limits(document: dict[str, Any]) -> KeyLimits:
    return msgspec.convert(document, KeyLimits)
