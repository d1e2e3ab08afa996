"""Sums by hour and day: always those of the records they were made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from gatewaykit import CallRecord, Target, Usage
from gatewaykit.storage import Storage, StoredCall
from gatewaykit.storage.spending import spent
from gatewaykit.storage.tables import UsageDay, UsageHour

from .conftest import BEGAN, PRICES, answered, opened, record, rows, storage_at, write

TOKENS = st.integers(0, 10**6)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, st.booleans())
CALLS = st.builds(
    lambda number, target, usage, **values: record(
        f"id-{number}", target=target, usage=usage if target else None, **values
    ),
    number=st.integers(0, 5),
    began=st.floats(BEGAN - 200_000, BEGAN + 200_000),
    seconds=st.floats(0, 100, width=16),
    outcome=st.sampled_from(["done", "refused", "client_gone", "provider_error", "blocked", "timeout", "failed"]),
    principal=st.sampled_from([None, "key_1", "key_2"]),
    owner=st.sampled_from([None, "acc_1"]),
    model=st.sampled_from([None, "m", "n"]),
    target=st.sampled_from([None, Target("fake", "m-1"), Target("fake", "m-2"), Target("other", "unknown")]),
    usage=st.none() | USAGES,
    first_event_seconds=st.none() | st.floats(0, 10, width=16),
)
FIELDS = [column.name for column in UsageHour.__table__.columns]
KEY, COUNTERS = FIELDS[:7], FIELDS[7:]


def hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def day(moment: datetime) -> datetime:
    return hour(moment).replace(hour=0)


def expected(calls: list[StoredCall], begins: Callable[[datetime], datetime]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The sums, one call at a time."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(lambda: dict.fromkeys(COUNTERS, 0))
    for call in calls:
        model = call.model if call.provider else None
        names = (call.principal, call.owner, model, call.provider, call.provider_model, call.currency)
        total = sums[(begins(call.began), *(name or "" for name in names))]
        kind = {"blocked": "refused", "provider_error": "failed", "timeout": "failed"}.get(call.outcome, call.outcome)
        total["requests"] += 1
        total[kind] += 1
        for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost", "spend", "seconds"):
            total[name] += getattr(call, name) or 0
        total["estimated"] += bool(call.estimated)
        total["unpriced"] += call.input_tokens is not None and call.cost is None
        total["first_events"] += call.first_event_seconds is not None
        total["first_event_seconds"] += call.first_event_seconds or 0
    return dict(sums)


def found(storage: Storage, table: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The sums that were kept."""
    with storage.transaction(write=False) as session:
        return {
            tuple(getattr(row, name) for name in KEY): {name: getattr(row, name) for name in COUNTERS}
            for row in session.scalars(select(table))
        }


@given(st.lists(CALLS, max_size=40), st.lists(CALLS, max_size=40))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])
def test_sums_are_those_of_the_records(url: str, folder: Path, first: list[CallRecord], then: list[CallRecord]) -> None:
    """Whatever calls there were, in whatever batches and however often: every counter is the sum over its records."""
    storage = storage_at(url)
    with opened(storage, folder, PRICES) as ledger:
        with storage.transaction() as session:
            for table in (StoredCall, UsageHour, UsageDay):
                session.execute(delete(table))
        write(ledger, *first)
        write(ledger, *then, *first[::2])
        kept = rows(storage)
        assert len(kept) == len({(one.request_id, round(one.began * 1e6), one.seconds) for one in [*first, *then]})
        assert found(storage, UsageHour) == expected(kept, hour)
        assert found(storage, UsageDay) == expected(kept, day)


def test_an_unknown_price_is_not_zero(storage: Storage, folder: Path) -> None:
    """A call of unknown cost has none, and is counted as such; a call without usage is not."""
    calls = [answered("known"), answered("unknown", target=Target("fake", "m-9")), record("refused", outcome="refused")]
    with opened(storage, folder, PRICES) as ledger:
        write(ledger, *calls)
        assert {row.request_id: row.cost for row in rows(storage)} == {"known": 50, "unknown": None, "refused": None}
        with storage.transaction(write=False) as session:
            query = select(func.sum(UsageDay.unpriced), func.sum(UsageDay.cost), func.sum(UsageDay.requests))
            assert tuple(map(int, session.execute(query).one())) == (1, 50, 3)


def test_words_of_clients_make_no_rows(storage: Storage, folder: Path) -> None:
    """Calls for models that do not exist are counted together, however many names are made up."""
    calls = [record(str(number), model=f"made-up-{number}", outcome="refused", status=404) for number in range(50)]
    with opened(storage, folder) as ledger:
        write(ledger, *calls)
        ((key, counters),) = found(storage, UsageHour).items()
    assert (key[3], counters["requests"], counters["refused"]) == ("", 50, 50)


def test_money_is_kept_in_both_currencies(storage: Storage, folder: Path) -> None:
    """``cost`` is in the currency of the price, ``spend`` in that of accounting."""
    with opened(storage, folder, PRICES) as ledger:
        write(ledger, answered("dollars", target=Target("fake", "m-2")))
        (row,) = rows(storage)
    assert (row.cost, row.currency, row.spend) == (20, "USD", 1800)


def test_what_was_spent(storage: Storage, folder: Path) -> None:
    """By key, user, model asked for, and altogether, from the beginning of a day on."""
    yesterday = BEGAN - 86_400
    calls = [
        answered("1", 100, principal="key_1", owner="acc_1", model="m"),
        answered("2", 10, principal="key_2", owner="acc_1", model="m"),
        answered("3", 1, principal="key_2", model="n", began=yesterday),
        answered("4", 1000, principal="key_1", target=Target("fake", "unpriced")),
    ]
    since = day(datetime.fromtimestamp(BEGAN, UTC))
    with opened(storage, folder, PRICES) as ledger:
        write(ledger, *calls)
        with storage.transaction(write=False) as session:
            subjects = ("all", "key:key_1", "key:key_2", "user:acc_1", "model:m", "model:n", "key:nobody")
            assert [spent(session, subject, since) for subject in subjects] == [550, 500, 50, 550, 550, 0, 0]
            before = since - timedelta(days=1)
            assert [spent(session, subject, before) for subject in subjects] == [555, 500, 55, 550, 550, 5, 0]
            with pytest.raises(ValueError, match="'ip:1'"):
                spent(session, "ip:1", since)


def test_absurd_figures_do_not_break_the_sums(storage: Storage, folder: Path) -> None:
    """Providers that report endless tokens cannot make a sum too large for its column."""
    calls = [answered(str(number), 2**70) for number in range(3)]
    with opened(storage, folder, {"models": [{"model": "*", "input": 999_999_999, "output": 1}]}) as ledger:
        write(ledger, *calls)
        assert len(rows(storage)) == 3
        assert ledger.writer.refused == 0
