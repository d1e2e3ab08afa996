"""Requests that are made twice: an idempotency key, within a day, stands for one change and never for a second one."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import delete
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest

from ..tables import RepetitionRow
from .model import Actor

WINDOW = timedelta(hours=24)


def repeated(
    session: Session, actor: Actor, action: str, idempotency_key: str, asked: bytes, now: datetime
) -> str | None:
    """The id of what this request has made or changed already.

    Raises :class:`~gatewaykit.errors.BadRequest` when the idempotency key was used for something else.
    """
    row = session.get(RepetitionRow, _id(actor, action, idempotency_key))
    if row is None or row.at <= now - WINDOW:
        return None
    if row.request != sha256(asked).digest():
        raise BadRequest("This idempotency key was used for another request.", param="Idempotency-Key")
    return row.key_id


def remember(
    session: Session, actor: Actor, action: str, idempotency_key: str, asked: bytes, key_id: str, now: datetime
) -> None:
    """The request was carried out. What is too old is forgotten."""
    session.execute(delete(RepetitionRow).where(RepetitionRow.at <= now - WINDOW))
    made = _id(actor, action, idempotency_key)
    session.add(RepetitionRow(id=made, request=sha256(asked).digest(), key_id=key_id, at=now))
    session.flush()


def _id(actor: Actor, action: str, idempotency_key: str) -> bytes:
    return sha256(f"{actor.id}\0{action}\0{idempotency_key}".encode()).digest()
