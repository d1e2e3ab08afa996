"""The audit log and the feed of changes: each change of a key or an account is written to both, in its transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest

from ..tables import AuditRow, ChangeRow
from .model import Actor, AuditEntry, Page

KEPT = timedelta(days=1)
"""How long the feed keeps changes; a process that was away for longer forgets all that it remembers."""

_CHANGED = "gatewaykit_oauth.changed"
T = TypeVar("T")
_LOCK = 0x67617465_6B657973
"""Key of the lock on Postgres: the words "gate" and "keys"."""


def take_turn(session: Session) -> None:
    """One change at a time, so that the feed's numbers grow in the order of commits. Held until the transaction ends.

    On SQLite that is so anyway. It must come before the first look at what is to be changed, and before any row is
    locked, or two changes may wait for each other.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def record(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    """Write one change of ``subject``, ``key:ID`` or ``user:ID``. The descriptions hold no secrets."""
    take_turn(session)
    log(session, actor, action, subject.partition(":")[2], before=before, after=after, now=now)
    change = ChangeRow(subject=subject, at=now)
    session.add(change)
    session.info.setdefault(_CHANGED, []).append(subject)
    session.flush()
    _forget_old(session, now)


def _forget_old(session: Session, now: datetime) -> None:
    """Forget what is older than :data:`KEPT`, from the beginning on: a hole would be passed over by whoever reads."""
    kept = select(ChangeRow.seq).where(ChangeRow.at >= now - KEPT).order_by(ChangeRow.seq).limit(1)
    session.execute(delete(ChangeRow).where(ChangeRow.seq < kept.scalar_subquery()))


def with_subjects(work: Callable[[Session], T]) -> Callable[[Session], tuple[T, Sequence[str]]]:
    """``work``, and what it has changed."""

    def noted(session: Session) -> tuple[T, Sequence[str]]:
        return work(session), session.info.get(_CHANGED, ())

    return noted


def log(
    session: Session,
    actor: Actor,
    action: str,
    object_id: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """Write what was done that changes nothing of what a key may do, such as signing in: to the audit log alone."""
    entry = AuditRow(
        at=now,
        actor=actor.id,
        client=actor.client,
        request_id=actor.request_id,
        action=action,
        object=object_id,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
    )
    session.add(entry)
    session.flush()


def entries(
    session: Session, *, object_id: str | None, actor: str | None, after: str | None, limit: int
) -> Page[AuditEntry]:
    """The newest first."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit + 1)
    if object_id is not None:
        query = query.where(AuditRow.object == object_id)
    if actor is not None:
        query = query.where(AuditRow.actor == actor)
    if after is not None:
        if not (after.isascii() and after.isdecimal() and len(after) < 19):
            raise BadRequest("This is no place in the list.", param="after")
        query = query.where(AuditRow.id < int(after))
    rows = list(session.scalars(query))
    items = tuple(_entry(row) for row in rows[:limit])
    return Page(items, str(items[-1].id) if len(rows) > limit else None)


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        at=row.at,
        actor=row.actor,
        client=row.client,
        request_id=row.request_id,
        action=row.action,
        object=row.object,
        before=row.before,
        after=row.after,
    )
