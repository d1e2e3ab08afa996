"""Lists of keys: filtered, ordered, and in parts that neither repeat nor skip a key while others are made."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from gatewaykit.errors import BadRequest

from ..faults import Fault
from ..tables import KeyRow, SecretRow
from ..words import counted, filled
from .model import ApiKey, Page, Sort, Status
from .rows import as_keys

MOST_ITEMS = 200
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_SORTS = ("created", "name", "expires", "last_used")


class _Place(msgspec.Struct, array_like=True):
    """Where a part of a list ends."""

    sort: str
    value: str
    id: str


def find(
    session: Session,
    *,
    owner: str | None = None,
    status: Status | None = None,
    text: str | None = None,
    sort: Sort = "-created",
    after: str | None = None,
    limit: int = 50,
    now: datetime | None = None,
) -> Page[ApiKey]:
    """Keys of an account, in some state, with ``text`` in their name, note, id or hint; 1 to 200 at a time.

    Raises :class:`~gatewaykit.errors.BadRequest` for an order or a place that does not exist.
    """
    now = now or datetime.now(UTC)
    if sort.removeprefix("-") not in _SORTS:
        message = filled("Keys can be ordered by %(orders)s, each also with '-' before it.", orders=", ".join(_SORTS))
        raise Fault(message, param="sort")
    if not 1 <= limit <= MOST_ITEMS:
        raise Fault(counted("A list has %(n)s item.", "A list has 1 to %(n)s items.", MOST_ITEMS), param="limit")
    query = _filtered(select(KeyRow), owner, status, text, now)
    rows = list(session.scalars(_ordered(query, sort, after).limit(limit + 1)))
    shown = rows[:limit]
    return Page(as_keys(session, shown, now), _place(shown[-1], sort) if len(rows) > limit else None)


def _filtered(
    query: Select[KeyRow], owner: str | None, status: Status | None, text: str | None, now: datetime
) -> Select[KeyRow]:
    if owner is not None:
        query = query.where(KeyRow.owner == owner)
    if status is not None:
        query = query.where(_has_status(status, now))
    if text:
        held = exists().where(SecretRow.key_id == KeyRow.id, SecretRow.hint.icontains(text, autoescape=True))
        columns = (KeyRow.id, KeyRow.name, KeyRow.note)
        query = query.where(or_(held, *(column.icontains(text, autoescape=True) for column in columns)))
    return query


def _has_status(status: Status, now: datetime) -> ColumnElement[bool]:
    """The same order of precedence as in :meth:`gatewaykit_oauth.keys.model.ApiKey.status_at`."""
    revoked = KeyRow.revoked.is_not(None)
    expired = and_(KeyRow.expires.is_not(None), KeyRow.expires <= now)
    in_time = and_(KeyRow.revoked.is_(None), or_(KeyRow.expires.is_(None), KeyRow.expires > now))
    if status == "revoked":
        return revoked
    if status == "expired":
        return and_(~revoked, expired)
    if status == "active":
        return and_(in_time, KeyRow.enabled)
    if status == "disabled":
        return and_(in_time, ~KeyRow.enabled)
    raise BadRequest("A key is active, disabled, expired or revoked.", param="status")


def _ordered(query: Select[KeyRow], sort: Sort, after: str | None) -> Select[KeyRow]:
    column = _column(sort)
    down = sort.startswith("-")
    if after is not None:
        place = _read_place(after, sort)
        value: Any = place.value if sort.endswith("name") else datetime.fromisoformat(place.value)
        here = tuple_(literal(value, column.type), literal(place.id))
        query = query.where(tuple_(column, KeyRow.id) < here if down else tuple_(column, KeyRow.id) > here)
    return query.order_by(column.desc() if down else column.asc(), KeyRow.id.desc() if down else KeyRow.id.asc())


def _column(sort: Sort) -> ColumnElement[Any]:
    """What is ordered by; a moment that is missing lies beyond all others in the direction of the order."""
    name = sort.removeprefix("-")
    column: ColumnElement[Any] = getattr(KeyRow, name).expression
    if name in ("created", "name"):
        return column
    return func.coalesce(column, literal(_missing(sort), column.type), type_=column.type)


def _missing(sort: Sort) -> datetime:
    return _EARLIEST if sort.startswith("-") else _LATEST


def _place(row: KeyRow, sort: Sort) -> str:
    value = getattr(row, sort.removeprefix("-"))
    if not isinstance(value, str):
        value = (value or _missing(sort)).isoformat()
    return base64.urlsafe_b64encode(msgspec.json.encode(_Place(sort, value, row.id))).decode().rstrip("=")


def _read_place(text: str, sort: Sort) -> _Place:
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Place)
        if not (place.value + place.id).isprintable():
            raise ValueError
        if not sort.endswith("name"):
            moment = datetime.fromisoformat(place.value)
            if moment.tzinfo is None or moment.utcoffset():
                raise ValueError
    except (binascii.Error, msgspec.MsgspecError, OverflowError, UnicodeError, ValueError):
        raise BadRequest("This is no place in the list.", param="after") from None
    if place.sort != sort:
        raise BadRequest("This is a place in a list of another order.", param="after")
    return place
