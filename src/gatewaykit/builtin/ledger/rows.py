"""From calls to rows: what is written to the outbox at the end of a call, and what becomes of it in the database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from gatewaykit.pricing import Cost
from gatewaykit.types import Attempt, CallRecord, Usage

MOST_TOKENS = 2**40
"""More tokens than that in one call are a mistake of whoever counted; so sums have room for millions of mistakes."""

MOST_MONEY = 2**50
HOUR, DAY = 3_600_000_000, 86_400_000_000
"""In microseconds."""

Key: TypeAlias = tuple[int, str, str, str, str, str, str]
Totals: TypeAlias = dict[Key, list[Any]]
_LONGEST = 256
_ENDS = {"done": 1, "refused": 2, "blocked": 2, "client_gone": 3}
_FAILED = 4
_COUNTERS = 16
_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """One call, as the outbox has it: an array, to which later versions may only add.

    ``began`` is in microseconds of unix time, ``attempts`` is a JSON text.
    """

    request_id: str
    began: int
    method: str
    path: str
    dialect: str
    status: int
    outcome: str
    error: str | None
    client: str | None
    principal: str | None
    tenant: str | None
    model: str | None
    stream: bool
    provider: str | None
    provider_model: str | None
    attempts: msgspec.Raw
    seconds: float
    first_event_seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool | None
    owner: str | None
    price_version: str | None


decode = msgspec.json.Decoder(Entry).decode


def encode(record: CallRecord, price_version: str | None) -> bytes:
    """The document of an :class:`Entry`; texts that clients chose are cut, and freed of what a database refuses.

    A usage that cannot be written is left out.
    """
    try:
        return _written(record, record.usage, price_version)
    except Exception:
        if record.usage is None:
            raise
        return _written(record, None, price_version)


def _written(record: CallRecord, usage: Usage | None, price_version: str | None) -> bytes:
    target = record.target
    return _encode(
        (
            _text(record.request_id),
            round(record.began * 1_000_000),
            _text(record.method),
            _text(record.path),
            record.dialect,
            record.status,
            record.outcome,
            record.error,
            _text(record.client),
            _text(record.principal),
            _text(record.tenant),
            _text(record.model),
            record.stream,
            target and target.provider,
            target and _text(target.model),
            [_attempt(attempt) for attempt in record.attempts],
            record.seconds,
            record.first_event_seconds,
            *(_NOTHING if usage is None else _counts(usage)),
            _text(record.owner),
            price_version,
        )
    )


_NOTHING = (None, None, None, None, None)


def _attempt(attempt: Attempt) -> dict[str, Any]:
    target = attempt.target
    return {
        "target": _text(f"{target.provider}/{target.model}"),
        "seconds": attempt.seconds,
        "error": attempt.error,
    }


def _counts(usage: Usage) -> tuple[int, int, int, int, bool]:
    return (
        _count(usage.input_tokens),
        _count(usage.output_tokens),
        _count(usage.cached_tokens),
        _count(usage.reasoning_tokens),
        usage.estimated,
    )


def _count(number: int) -> int:
    return number if 0 <= number <= MOST_TOKENS else min(max(number, 0), MOST_TOKENS)


def _text(text: str | None) -> str | None:
    """No NUL, which Postgres refuses, and no half of a surrogate pair, which nobody can encode."""
    if text is None or (text.isascii() and len(text) <= _LONGEST and "\0" not in text):
        return text
    return text[:_LONGEST].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Row:
    """One row of ``call_records``: an entry and what it cost. ``began`` may be moved, see :mod:`.books`."""

    __slots__ = ("began", "cost", "entry")

    def __init__(self, entry: Entry, cost: Cost | None) -> None:
        self.entry = entry
        self.cost = cost
        self.began = entry.began

    def add_to(self, counters: list[Any]) -> None:
        """Count this call."""
        entry, cost = self.entry, self.cost
        counters[0] += 1
        counters[_ENDS.get(entry.outcome, _FAILED)] += 1
        if entry.input_tokens is not None:
            counters[5] += entry.input_tokens
            counters[6] += entry.cached_tokens or 0
            counters[7] += entry.output_tokens or 0
            counters[8] += entry.reasoning_tokens or 0
            counters[9] += bool(entry.estimated)
            if cost is None:
                counters[10] += 1
            else:
                counters[11] += cost.amount
                counters[12] += cost.spend
        counters[13] += entry.seconds
        if entry.first_event_seconds is not None:
            counters[14] += entry.first_event_seconds
            counters[15] += 1

    def key(self) -> Key:
        """Under which hour and names it is counted."""
        entry = self.entry
        answered = entry.provider is not None
        return (
            self.began // HOUR * HOUR,
            entry.principal or "",
            entry.owner or "",
            (entry.model or "") if answered else "",
            entry.provider or "",
            entry.provider_model or "",
            self.cost.currency if self.cost else "",
        )


def by_hour(rows: Iterable[Row]) -> Totals:
    """Counters of ``usage_hours``, in the order of their columns."""
    totals: Totals = {}
    for row in rows:
        key = row.key()
        counters = totals.get(key)
        if counters is None:
            counters = totals[key] = [0] * _COUNTERS
        row.add_to(counters)
    return totals


def by_day(hours: Totals) -> Totals:
    """The same for ``usage_days``."""
    totals: Totals = {}
    for (begins, *names), counters in hours.items():
        key: Any = (begins // DAY * DAY, *names)
        totals[key] = [a + b for a, b in zip(totals[key], counters, strict=True)] if key in totals else counters
    return totals
