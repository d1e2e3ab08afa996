"""Figures of usage for the pages: the sums of the ledger, asked for as ``/api/admin/usage`` asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session as Database

from gatewaykit.builtin.usage.parameters import Span
from gatewaykit.builtin.usage.rollups import Question, page, total

from ..tables import KeyRow

MOST_LINES = 1000


class Figures(Struct, frozen=True):
    """Sums over calls; ``spend`` is in micro-units."""

    requests: int = 0
    failed: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spend: int = 0
    mean_seconds: float | None = None


class Day(Struct, frozen=True):
    """The figures of one day, of those that have none as well."""

    begins: datetime
    figures: Figures


class Part(Struct, frozen=True):
    """The figures of one model, key or owner. ``name`` is what people call it."""

    id: str
    name: str
    figures: Figures


def span_of(days: int, now: datetime) -> Span:
    """So many whole days in UTC, of which today is the last."""
    ends = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return Span("day", ends - timedelta(days=days), ends)


def by_day(database: Database, span: Span, where: Mapping[str, str]) -> list[Day]:
    """One for each day of the span."""
    lines = {line["begins"]: line for line in page(database, Question(span, (), where), None, MOST_LINES)}
    days = [span.begins + timedelta(days=number) for number in range((span.ends - span.begins).days)]
    return [Day(day, _figures(lines[day]) if day in lines else Figures()) for day in days]


def in_all(database: Database, span: Span, where: Mapping[str, str]) -> Figures:
    """The sum of the whole span."""
    return _figures(total(database, Question(span, (), where)))


def by_part(database: Database, span: Span, where: Mapping[str, str], group: str) -> list[Part]:
    """The sums of the whole span for each model, key or owner, what cost most first."""
    sums: dict[str, Figures] = {}
    after = None
    while True:
        lines = page(database, Question(span, (group,), where), after, MOST_LINES)
        for line in lines:
            sums[line[group]] = _sum(sums.get(line[group], Figures()), _figures(line))
        if len(lines) < MOST_LINES:
            break
        after = (lines[-1]["begins"], (lines[-1][group],))
    names = _names(database, list(sums)) if group == "key" else {}
    parts = [Part(name, names.get(name, name), figures) for name, figures in sums.items()]
    return sorted(parts, key=lambda part: (-part.figures.spend, -part.figures.requests, part.id))


def _names(database: Database, keys: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for begin in range(0, len(keys), 500):
        rows = database.execute(select(KeyRow.id, KeyRow.name).where(KeyRow.id.in_(keys[begin : begin + 500])))
        names |= {key: name for key, name in rows}  # noqa: C416 - rows are no pairs to a type checker
    return names


def _figures(line: Mapping[str, Any]) -> Figures:
    return Figures(
        requests=line["requests"],
        failed=line["failed"] + line["refused"],
        tokens=line["input_tokens"] + line["output_tokens"],
        input_tokens=line["input_tokens"],
        output_tokens=line["output_tokens"],
        spend=int(Decimal(line["spend"]) * 10**6),
        mean_seconds=line["mean_seconds"],
    )


def _sum(one: Figures, other: Figures) -> Figures:
    requests = one.requests + other.requests
    seconds = sum((part.mean_seconds or 0.0) * part.requests for part in (one, other))
    return Figures(
        requests=requests,
        failed=one.failed + other.failed,
        tokens=one.tokens + other.tokens,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        spend=one.spend + other.spend,
        mean_seconds=seconds / requests if requests else None,
    )
