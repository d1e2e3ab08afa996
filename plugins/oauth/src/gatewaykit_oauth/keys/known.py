"""Whose an id is, for operators who ask what a key may do without having it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest
from gatewaykit.protocols import Known

from ..tables import AccountRow, KeyRow, SecretRow
from .format import has_shape
from .rows import as_keys, is_usable, networks_of, principal_of

_BEGINS = "key_"
_PREFIX = 8
"""Characters of an id from which on it need not be whole."""


def look_up(session: Session, text: str, now: datetime) -> Known | None:
    """The key of this id, of an id that begins so, or with a secret of this hint (``gk_live_…abcd``).

    Raises :class:`~gatewaykit.errors.BadRequest` where that fits several keys, and for a secret itself.
    """
    if has_shape(text):
        raise BadRequest("This is a key itself, and not its id: a secret has no place in a question.", param="key")
    row = _found(session, text)
    if row is None:
        return None
    account = session.get(AccountRow, row.owner) if row.owner is not None else None
    return Known(principal_of(row, account), _bars(session, row, account, now), networks_of(row))


def _found(session: Session, text: str) -> KeyRow | None:
    if (row := session.get(KeyRow, text)) is not None:
        return row
    if text.startswith(_BEGINS) and len(text) >= _PREFIX:
        query = select(KeyRow).where(KeyRow.id.startswith(text, autoescape=True))
    elif "…" in text:
        query = select(KeyRow).where(KeyRow.id.in_(select(SecretRow.key_id).where(SecretRow.hint == text)))
    else:
        return None
    rows = session.scalars(query.limit(2)).all()
    if len(rows) > 1:
        raise BadRequest("Several keys are called so: give the whole id of one of them.", param="key")
    return rows[0] if rows else None


def _bars(session: Session, row: KeyRow, account: AccountRow | None, now: datetime) -> str:
    """Why the key does not let anybody in."""
    if is_usable(row, account, now):
        return ""
    (key,) = as_keys(session, [row], now)
    status = key.status_at(now)
    return status if status != "active" else "its account is disabled"
