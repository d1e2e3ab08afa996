"""What is old goes, little by little; sums outlive the records they were made of."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gatewaykit import ConfigError
from gatewaykit.builtin.ledger import retention as retention_module
from gatewaykit.builtin.ledger.ledger import Ledger
from gatewaykit.builtin.ledger.retention import ADVISORY_LOCK, Retention
from gatewaykit.builtin.ledger.settings import LedgerSettings
from gatewaykit.storage import Storage
from gatewaykit.testing import make_gateway

from .conftest import counted, down, ids, opened, record, storage_at, write

DAY = 86_400


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "_AT_ONCE", 10)


def fill(ledger: Ledger, ages: dict[str, float], count: int = 1) -> None:
    """``count`` records of each age in days."""
    now = time.time()
    write(
        ledger,
        *(record(f"{name}-{number}", began=now - age * DAY) for name, age in ages.items() for number in range(count)),
    )


def test_old_records_go_and_their_sums_stay(storage: Storage, folder: Path) -> None:
    """Records after their days, sums by the hour after theirs, sums by the day never, unless it is said."""
    with opened(storage, folder) as ledger:
        fill(ledger, {"new": 1, "old": 100, "older": 500}, 4)
        retention = Retention(storage, LedgerSettings(), first=0)
        assert retention.due
        assert not retention.step()
        assert not retention.due
        assert ids(storage) == [f"new-{number}" for number in range(4)]
        assert counted(storage) == [4, 8, 12]
        assert retention.deleted == 9


BUDGETS = [
    ({"all": {"budget": 5, "budget_period": "day"}}, 1, 2, "all"),
    ({"each_key": {"budget": 5, "budget_period": "week"}}, 7, 8, "each_key"),
    ({"each_user": {"budget": 5}, "all": {"budget": 5, "budget_period": "day"}}, 31, 32, "each_user"),
    ({"keys": {"static:demo": {"budget": 5, "budget_period": "total"}}}, 36_500, 0, "keys.static:demo"),
    ({"models": {"dear-*": {"budget": 5}}}, 2, 0, "models.dear-*"),
]


@pytest.mark.parametrize(("limits", "short", "enough", "which"), BUDGETS)
def test_budgets_keep_what_they_count_from(
    sqlite_url: str, limits: dict[str, Any], short: int, enough: int, which: str
) -> None:
    """Days that do not cover the period of a budget are a fault of the configuration; others, and for ever, are not."""
    given = {"database": {"url": sqlite_url}, "limits": limits}
    make_gateway(**given, ledger={"keep_days": enough})
    make_gateway(ledger={"keep_days": short}, limits=limits)
    with pytest.raises(
        ConfigError, match=rf"ledger\.keep_days: must be 0.*, for the budget of limits\.{re.escape(which)}"
    ):
        make_gateway(**given, ledger={"keep_days": short})


def test_without_limits_any_days_will_do(sqlite_url: str) -> None:
    """Where the plugin of the limits is blocked there are no budgets."""
    make_gateway(database={"url": sqlite_url}, ledger={"keep_days": 1}, plugins={"blocked": ["limits"]})


def test_nothing_goes_where_all_is_kept(storage: Storage, folder: Path) -> None:
    """0 days are for ever."""
    with opened(storage, folder) as ledger:
        fill(ledger, {"old": 5000})
        assert not Retention(storage, LedgerSettings(keep_records=0, keep_hours=0), first=0).step()
        assert counted(storage) == [1, 1, 1]


def test_deletes_are_small_and_writes_go_on_between(storage: Storage, folder: Path) -> None:
    """Each turn of the writer deletes ten rows at most, and writes what came meanwhile."""
    with opened(storage, folder) as ledger:
        fill(ledger, {"old": 100}, 35)
        ledger.writer._retention = retention = Retention(storage, LedgerSettings(), first=0)
        left = []
        for turn in range(5):
            ledger.seal(record(f"new-{turn}", began=time.time()))
            ledger.writer.turn()
            found = ids(storage)
            assert f"new-{turn}" in found
            left.append(sum(name.startswith("old") for name in found))
        assert left == [25, 15, 5, 0, 0]
        assert not retention.due
        assert counted(storage) == [5, 40, 40]


def test_one_process_at_a_time(postgres_url: str, folder: Path) -> None:
    """While another one deletes, this one leaves it to that."""
    storage = storage_at(postgres_url)
    with opened(storage, folder) as ledger:
        fill(ledger, {"old": 100})
        retention = Retention(storage, LedgerSettings(), first=0)
        with storage.transaction() as session:
            session.scalar(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            assert not retention.step()
            assert len(ids(storage)) == 1
        assert not retention.step()
        assert ids(storage) == []


def test_an_outage_is_waited_for(storage: Storage, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the database is down, nothing is deleted, and it is tried again later."""
    with opened(storage, folder) as ledger:
        ledger.writer.turn()
        ledger.writer._retention = retention = Retention(storage, LedgerSettings(), first=0)
        with down(storage):
            ledger.writer.turn()
        assert "what is old is not deleted" in caplog.text
        assert not retention.due
