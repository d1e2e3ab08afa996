"""Figures by the hour and the day, from the sums that the ledger keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from sqlalchemy import ColumnElement, Integer, Select, Table, func, literal, select, tuple_
from sqlalchemy.orm import Session

from gatewaykit.builtin.usage.cursors import Place
from gatewaykit.builtin.usage.parameters import Span
from gatewaykit.pricing import money_text
from gatewaykit.storage.tables import UtcDateTime, metadata

GROUPS: Mapping[str, str] = {
    "key": "principal",
    "owner": "owner",
    "model": "model",
    "provider": "provider",
    "currency": "currency",
}
"""By what figures can be told apart, and the columns of that."""

OUTCOMES = ("done", "refused", "client_gone", "failed")
COUNTS = ("requests", *OUTCOMES)
TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
CALLS = ("estimated", "unpriced")
COLUMNS = (*COUNTS, *TOKENS, *CALLS, "spend", "mean_seconds", "mean_first_event_seconds")
"""The figures of each line."""

_SUMMED = (*COUNTS, *TOKENS, *CALLS, "cost", "spend")
_LOW = 0xFFFFFFFF


class Question(Struct, frozen=True):
    """Which figures: of what time, told apart by ``groups``, of calls with these values in these ``GROUPS``.

    With ``outcome`` only lines that count such a call are shown.
    """

    span: Span
    groups: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    outcome: str | None = None


def page(session: Session, question: Question, after: Place | None, limit: int) -> list[dict[str, Any]]:
    """The next lines, oldest first."""
    table = _table(question)
    key = (table.c.begins, *(table.c[GROUPS[group]] for group in question.groups))
    query = _figures(table, question, key).group_by(*key).order_by(*key).limit(limit)
    if question.outcome is not None:
        query = query.having(func.sum(table.c[question.outcome]) > 0)
    if after is not None:
        moment, texts = after
        query = query.where(tuple_(*key) > tuple_(literal(moment, UtcDateTime), *map(literal, texts)))
    return [_line(row, question.groups) for row in session.execute(query).mappings()]


def page_and_total(
    session: Session, question: Question, after: Place | None, limit: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Both at one moment, whatever is written meanwhile: the lines of a single page add up to the total."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection().exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    return page(session, question, after, limit), total(session, question)


def total(session: Session, question: Question) -> dict[str, Any]:
    """The sum of all lines, whatever their outcome."""
    return _line(session.execute(_figures(_table(question), question, ())).mappings().one(), ())


def _table(question: Question) -> Table:
    return metadata.tables[f"usage_{question.span.by}s"]


def _figures(table: Table, question: Question, key: Sequence[ColumnElement[Any]]) -> Select[Any]:
    query = select(
        *key,
        *(half for name in _SUMMED for half in _halves(table.c[name])),
        func.sum(table.c.seconds).label("seconds"),
        func.sum(table.c.first_event_seconds).label("first_event_seconds"),
        func.sum(table.c.first_events).label("first_events"),
    )
    query = query.where(table.c.begins >= question.span.begins, table.c.begins < question.span.ends)
    return query.where(*(table.c[GROUPS[group]] == value for group, value in question.where.items()))


def _halves(column: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Sums of the upper and lower 32 bits: SQLite fails where a sum of whole numbers exceeds 64."""
    return (
        func.sum(column.bitwise_rshift(literal(32, Integer))).label(f"{column.key}_high"),
        func.sum(column.bitwise_and(_LOW)).label(f"{column.key}_low"),
    )


def _line(row: Mapping[Any, Any], groups: Sequence[str]) -> dict[str, Any]:
    sums = {name: (int(row[f"{name}_high"] or 0) << 32) + int(row[f"{name}_low"] or 0) for name in _SUMMED}
    cost, spend = sums.pop("cost"), sums.pop("spend")
    line: dict[str, Any] = {"begins": row["begins"]} if "begins" in row else {}
    line |= {group: row[GROUPS[group]] for group in groups} | sums
    if "currency" in groups:
        line["cost"] = money_text(cost)
    return line | {
        "spend": money_text(spend),
        "mean_seconds": _mean(row["seconds"], sums["requests"]),
        "mean_first_event_seconds": _mean(row["first_event_seconds"], int(row["first_events"] or 0)),
    }


def _mean(seconds: float | None, count: int) -> float | None:
    return round((seconds or 0.0) / count, 6) if count else None
