"""Backups by the gateway's own clock: when one is due, one of all processes makes it, and the metrics say so."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import ConfigError, Gateway
from gatewaykit.builtin.backup.schedule import AFTER_FAILURE, AGAIN, Schedule
from gatewaykit.builtin.backup.settings import BackupSettings
from gatewaykit.metrics.names import BACKUP_FAILURES, BACKUP_INTERVAL, BACKUP_TIME
from gatewaykit.storage import Storage
from gatewaykit.storage.backup.folder import moment, name_of
from gatewaykit.testing import make_gateway, until

from ..storage.conftest import storage_at
from .conftest import fill

STOP = threading.Event()


@pytest.fixture
def there(sqlite_url: str) -> Storage:
    """A database with something in it."""
    storage = storage_at(sqlite_url)
    fill(storage, "a")
    return storage


def schedule(storage: Storage, **settings: Any) -> Schedule:
    """Backups every hour, unless it is told otherwise."""
    return Schedule(storage, BackupSettings.model_validate({"every": 1, **settings}), first=0.0)


def told(one: Schedule) -> dict[str, float]:
    """Its readings by name, fresh."""
    one._looked = -1e9
    return {reading.metric.name: float(reading.value) for reading in one.readings()}  # type: ignore[arg-type]


def made(storage: Storage) -> list[str]:
    """The names of the backups that are there."""
    return BackupSettings.model_validate({}).of(storage).folder.names()


def test_one_is_made_when_it_is_due(there: Storage) -> None:
    """The first at once, the next when the last is old enough, whoever made that; old ones go."""
    one = schedule(there, keep=2)
    assert told(one) == {BACKUP_TIME.name: 0, BACKUP_INTERVAL.name: 3600, BACKUP_FAILURES.name: 0}
    one.turn(STOP)
    assert len(made(there)) == 1
    assert told(one)[BACKUP_TIME.name] == pytest.approx(datetime.now(UTC).timestamp(), abs=120)
    assert one.turn(STOP) == AGAIN
    schedule(there).turn(STOP)
    assert len(made(there)) == 1
    folder = BackupSettings.model_validate({}).of(there).folder
    for hours in (4, 3, 2):
        (folder.path / made(there)[-1]).rename(folder.path / name_of(datetime.now(UTC) - timedelta(hours=hours)))
        one.turn(STOP)
    assert len(made(there)) == 2


def test_a_backup_of_a_moment_to_come_is_not_the_newest(there: Storage) -> None:
    """What was made while a clock was ahead holds up no backup, hides no lack of one, and costs no other its place."""
    one, folder = schedule(there, keep=1), BackupSettings.model_validate({}).of(there).folder
    one.turn(STOP)
    ahead = name_of(datetime.now(UTC) + timedelta(days=3650))
    (folder.path / made(there)[0]).rename(folder.path / ahead)
    assert told(one)[BACKUP_TIME.name] == 0
    one.turn(STOP)
    first, last = made(there)
    assert last == ahead
    assert told(one)[BACKUP_TIME.name] == moment(first).timestamp()
    assert BackupSettings.model_validate({}).of(there).find("").name == first
    (folder.path / first).rename(folder.path / name_of(datetime.now(UTC) - timedelta(hours=2)))
    one.turn(STOP)
    assert len(made(there)) == 2
    assert made(there)[-1] == ahead
    assert made(there)[0] > first


def test_processes_that_look_together_make_one(there: Storage) -> None:
    """Whoever comes second finds the folder taken, or the backup made."""
    everyone = [schedule(there) for _ in range(4)]
    threads = [threading.Thread(target=one.turn, args=(STOP,)) for one in everyone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made(there)) == 1
    assert sum(told(one)[BACKUP_FAILURES.name] for one in everyone) == 0


def test_a_failure_is_counted_and_tried_again(there: Storage, tmp_path: Path) -> None:
    """The log has the reason, and what could not be made once is made when that is possible."""
    disk = tmp_path / "disk"
    one = schedule(there, directory=disk / "backups")
    assert one.turn(STOP) == AFTER_FAILURE
    assert told(one) == {BACKUP_TIME.name: 0, BACKUP_INTERVAL.name: 3600, BACKUP_FAILURES.name: 1}
    disk.mkdir()
    one.turn(STOP)
    assert told(one)[BACKUP_TIME.name] > 0


def test_without_a_clock_only_what_is_there_is_told(there: Storage) -> None:
    """Where nobody makes backups no age is told; where another clock does, theirs is, against one a day."""
    one = schedule(there, every=0)
    assert told(one) == {}
    BackupSettings.model_validate({}).of(there).create()
    assert told(one)[BACKUP_INTERVAL.name] == 86_400


async def test_a_gateway_makes_them(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its start on, with the settings of `[backup]`, and its readings tell of them."""
    monkeypatch.setattr("gatewaykit.builtin.backup.schedule.FIRST", 0.0)
    gateway = make_gateway(database={"url": sqlite_url}, backup={"every": 24})
    assert gateway.storage is not None
    async with gateway:
        storage = gateway.storage
        await until(lambda: len(made(storage)) == 1, 60)
    assert any(reading.metric is BACKUP_INTERVAL for reading in gateway.readings())


async def test_stopping_does_not_wait_for_a_backup(there: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is under way is given up when the gateway stops, and does not count as a failure."""
    begun = threading.Event()

    def copy(self: Any, folder: Path, *, compress: bool, stop: threading.Event) -> Any:
        from gatewaykit.storage.backup import files

        begun.set()
        assert stop.wait(60)
        raise files.stopped()

    monkeypatch.setattr("gatewaykit.storage.backup.sqlite.SQLite.copy", copy)
    one = schedule(there)
    async with one.lifespan():
        await asyncio.to_thread(begun.wait, 60)
    assert made(there) == []
    assert told(one)[BACKUP_FAILURES.name] == 0


def test_a_clock_without_a_database_is_a_fault() -> None:
    """It would make nothing."""
    with pytest.raises(ConfigError, match=r"backup\.every: needs database\.url"):
        Gateway({"backup": {"every": 24}}, environ={})
