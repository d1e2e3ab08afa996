"""Big tables: every look goes by an index, and reads no more than a page needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from gatewaykit.builtin.prices import earlier
from gatewaykit.builtin.usage import records, rollups
from gatewaykit.builtin.usage.parameters import Span
from gatewaykit.builtin.usage.records import Search
from gatewaykit.builtin.usage.rollups import Question
from gatewaykit.storage import Storage
from gatewaykit.testing.servers import PostgresServer

from .conftest import BEGAN, HOUR, many, moment, storage_at, sums
from .test_sheets import written

ROWS = 200_000
FILTERS: list[dict[str, str]] = [
    {},
    {"key": "key_7"},
    {"owner": "acc_7"},
    {"model": "model-7"},
    {"provider": "fake"},
    {"outcome": "done"},
    {"key": "key_7", "model": "model-7", "owner": "acc_7", "provider": "fake", "outcome": "done"},
]
PATIENCE = 60.0
"""Seconds that a statement may take: how long is not what these tests are about."""
TEXTS = ("principal", "owner", "model", "provider", "provider_model", "currency")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A database with many calls, and the sums of many hours and days."""
    if request.param == "sqlite":
        with filled(storage_at(f"sqlite:///{tmp_path_factory.mktemp('big')}/big.db", timeout=PATIENCE)) as storage:
            yield storage
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.database()
    with filled(storage_at(server.url(name), timeout=PATIENCE)) as storage:
        yield storage
    server.drop(name)


@contextmanager
def filled(storage: Storage) -> Iterator[Storage]:
    with storage.opened():
        with storage.transaction() as session:
            written(session, ROWS)
            connection = session.connection()
            for table, seconds in (("usage_hours", "(i / 25) * 3600"), ("usage_days", "(i / 25) * 86400")):
                values = {name: str(value) for name, value in sums().items() if not isinstance(value, str)}
                texts = dict.fromkeys(TEXTS, "''") | {
                    "principal": "'key_' || i",
                    "owner": "'acc_' || (i - i / 500 * 500)",
                    "model": "'model-' || (i - i / 400 * 400)",
                }
                many(connection, table, 20_000, **values | texts | {"begins": moment(connection, seconds)})
            connection.exec_driver_sql("ANALYZE")
        yield storage


def plan_of(storage: Storage, work: Callable[[Session], Any]) -> str:
    """How the database goes about the one statement of ``work``."""
    said: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, *others: Any) -> None:
        said.append((statement, parameters))

    with storage.transaction(write=False) as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", listen)
        work(session)
        event.remove(connection, "before_cursor_execute", listen)
        ((statement, parameters),) = said
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(str(row[-1]) for row in rows)


def goes_by_index(plan: str) -> bool:
    """No table is read from end to end."""
    if "Scan" in plan:
        return "Seq Scan" not in plan
    return all("INDEX" in line for line in plan.splitlines() if line.startswith(("SCAN", "SEARCH")))


@pytest.mark.parametrize("where", FILTERS, ids=lambda where: "+".join(where) or "all")
@pytest.mark.parametrize("after", [None, (BEGAN + timedelta(seconds=ROWS // 2), ("call-1",))], ids=["first", "later"])
def test_a_page_of_records_goes_by_an_index(big: Storage, where: dict[str, str], after: Any) -> None:
    """Whatever the filter, at the beginning and in the middle, calls are read in the order of an index, and not all
    of them are sorted."""
    plan = plan_of(big, lambda session: records.page(session, Search(where=where), after, 101))
    assert goes_by_index(plan), plan
    if len(where) < 2:
        assert "->  Sort  " not in plan, plan
        assert "FOR ORDER BY" not in plan, plan


@pytest.mark.parametrize("where", FILTERS[:5], ids=lambda where: "+".join(where) or "all")
@pytest.mark.parametrize("by", ["hour", "day"])
def test_figures_of_a_time_go_by_an_index(big: Storage, where: dict[str, str], by: Any) -> None:
    """Of all hours and days only those asked for are read."""
    length = timedelta(hours=24) if by == "hour" else timedelta(days=30)
    begins = (HOUR if by == "hour" else HOUR.replace(hour=0)) + 5 * length
    question = Question(Span(by, begins, begins + length), ("model",), where)
    for work in (
        lambda session: rollups.page(session, question, None, 1001),
        lambda session: rollups.page(session, question, (begins, ("model-7",)), 1001),
        lambda session: rollups.total(session, question),
    ):
        plan = plan_of(big, work)
        assert goes_by_index(plan), plan


def test_a_key_reads_its_own_rows_only(big: Storage) -> None:
    """The figures of one key are found by its name, not among those of all keys of that time."""
    question = Question(Span("day", HOUR, HOUR + timedelta(days=700)), (), {"key": "key_7"})
    for by in ("hour", "day"):
        question = Question(Span(by, HOUR, HOUR + timedelta(days=90)), (), {"key": "key_7"})
        plan = plan_of(big, lambda session, question=question: rollups.total(session, question))
        assert f"ix_usage_{by}s_principal_begins" in plan, plan


def test_earlier_price_lists_are_few(big: Storage) -> None:
    """They are as many as the operator has changed prices; the latest hundred are shown."""
    with big.transaction(write=False) as session:
        assert earlier(session, "") == []
