"""The revision that brings the ledger: what was recorded before it is counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, text

from gatewaykit.storage import Storage
from gatewaykit.storage.migrate import CORE, MIGRATING, _config, _opened
from gatewaykit.storage.tables import UsageDay, UsageHour

from .conftest import rows
from .test_sums import day, expected, found, hour

BEGAN = datetime(2026, 3, 31, 22, 59, 59, 999_999, UTC)
CALL: dict[str, Any] = {
    "method": "POST",
    "path": "/",
    "dialect": "d",
    "status": 200,
    "outcome": "done",
    "principal": "key_1",
    "tenant": "t",
    "model": "m",
    "stream": False,
    "provider": "fake",
    "provider_model": "m-1",
    "attempts": "[]",
    "seconds": 0.5,
    "first_event_seconds": 0.25,
    "input_tokens": 10,
    "output_tokens": 20,
    "cached_tokens": 3,
    "reasoning_tokens": 4,
    "estimated": True,
}
NOTHING = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated"))
CALLS: list[dict[str, Any]] = [
    {},
    {"began": BEGAN + timedelta(microseconds=1)},
    {"began": BEGAN + timedelta(hours=1)},
    {"outcome": "refused", "provider": None, "provider_model": None, "model": "made up", **NOTHING},
    {"outcome": "blocked", "principal": None, **NOTHING, "first_event_seconds": None},
    {"outcome": "timeout", "estimated": False},
    {"outcome": "client_gone"},
]


def at_revision(storage: Storage, revision: str, work: Any = None) -> None:
    """Bring the core's tables to ``revision``, and work with them then."""
    storage._database.prepare()
    with _opened(storage._database, MIGRATING) as connection:
        current = connection.dialect.has_table(connection, "usage_days")
        (command.downgrade if current else command.upgrade)(_config(CORE, connection), revision)
        if work is not None:
            work(connection)
        connection.commit()


def fill(connection: Connection) -> None:
    """Some calls of before."""
    for number, changes in enumerate(CALLS):
        call = {**CALL, "request_id": str(number), "began": BEGAN, **changes}
        if connection.dialect.name == "sqlite":
            call["began"] = call["began"].strftime("%Y-%m-%d %H:%M:%S.%f")
        names = ", ".join(call)
        marks = ", ".join(f"CAST(:{name} AS json)" if name == "attempts" else f":{name}" for name in call)
        if connection.dialect.name == "sqlite":
            marks = marks.replace("CAST(:attempts AS json)", ":attempts")
        connection.execute(text(f"INSERT INTO call_records ({names}) VALUES ({marks})"), call)


def test_records_of_before_are_counted(storage: Storage) -> None:
    """Their sums by hour and day are as if the ledger had been there; no price is known, no owner either."""
    at_revision(storage, "core_0002", fill)
    storage.migrate()
    with storage.opened():
        kept = rows(storage)
        assert len(kept) == len(CALLS)
        assert found(storage, UsageHour) == expected(kept, hour)
        assert found(storage, UsageDay) == expected(kept, day)
    assert storage.check()[0].ok


@pytest.mark.parametrize("times", [1, 2])
def test_there_is_a_way_back(storage: Storage, times: int) -> None:
    """The revision can be undone and done again; the records stay."""
    at_revision(storage, "core_0002", fill)
    for _ in range(times):
        storage.migrate()
        at_revision(storage, "core_0002")
    storage.migrate()
    with storage.opened():
        assert len(rows(storage)) == len(CALLS)
    assert storage.check()[0].ok
