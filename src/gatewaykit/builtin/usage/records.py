"""Single calls, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

from msgspec import Struct, field
from sqlalchemy import literal, select, tuple_
from sqlalchemy.orm import Session

from gatewaykit.builtin.usage.cursors import Place
from gatewaykit.pricing import money_text
from gatewaykit.storage.tables import UtcDateTime, metadata
from gatewaykit.types import Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)
COLUMNS: Mapping[str, str] = {
    "request_id": "request_id",
    "began": "began",
    "key": "principal",
    "owner": "owner",
    "tenant": "tenant",
    "client": "client",
    "method": "method",
    "path": "path",
    "dialect": "dialect",
    "model": "model",
    "provider": "provider",
    "provider_model": "provider_model",
    "stream": "stream",
    "status": "status",
    "outcome": "outcome",
    "error": "error",
    "attempts": "attempts",
    "seconds": "seconds",
    "first_event_seconds": "first_event_seconds",
    "input_tokens": "input_tokens",
    "cached_tokens": "cached_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "estimated": "estimated",
    "cost": "cost",
    "currency": "currency",
    "spend": "spend",
    "price_version": "price_version",
}
"""What is told of a call, and the column that has it."""

_TABLE = metadata.tables["call_records"]


class Search(Struct, frozen=True):
    """Which calls: from ``begins`` until before ``ends``, with these values in these ``COLUMNS``."""

    begins: datetime | None = None
    ends: datetime | None = None
    where: Mapping[str, str] = field(default_factory=dict)


def page(session: Session, search: Search, after: Place | None, limit: int) -> list[dict[str, Any]]:
    """The next calls. Calls of the same moment are in the order of their ids."""
    began, request_id = _TABLE.c.began, _TABLE.c.request_id
    query = select(*(_TABLE.c[column] for column in COLUMNS.values()))
    query = query.where(*(_TABLE.c[COLUMNS[name]] == value for name, value in search.where.items()))
    if search.begins is not None:
        query = query.where(began >= search.begins)
    if search.ends is not None:
        query = query.where(began < search.ends)
    if after is not None:
        moment, (last,) = after
        query = query.where(tuple_(began, request_id) < tuple_(literal(moment, UtcDateTime), literal(last)))
    rows = session.execute(query.order_by(began.desc(), request_id.desc()).limit(limit))
    return [_told(row) for row in rows.mappings()]


def _told(row: Mapping[Any, Any]) -> dict[str, Any]:
    record = {name: row[column] for name, column in COLUMNS.items()}
    for name in ("cost", "spend"):
        record[name] = None if record[name] is None else money_text(record[name])
    return record
