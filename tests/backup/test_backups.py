"""Backups of either database: whole or not there, and put back only where that loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from gatewaykit import BackupError, StorageError
from gatewaykit.storage import Storage
from gatewaykit.storage.backup import Backup, Backups, Busy, files, manifest
from gatewaykit.storage.backup.folder import BackupFolder, name_of
from gatewaykit.storage.migrate import Applied

from ..ledger.conftest import answered, counted, opened
from ..storage.conftest import start, storage_at
from ..storage.test_migrations import HEAD, TABLE, Plugin
from ..storage.test_transactions import ids
from .conftest import Make, elsewhere, fill, names


@pytest.mark.parametrize("compress", [True, False])
def test_what_was_there_comes_back(storage: Storage, backups: Make, compress: bool) -> None:
    """A backup holds what was committed before it and nothing later, and the database that it replaces is kept."""
    fill(storage, "before")
    there = backups(storage, compress=compress)
    made = there.create()
    assert made.manifest.contents.rows["call_records"] == 1
    assert there.verify().backup == made
    fill(storage, "after")
    done = there.restore(force=True)
    assert names(storage) == ["before"]
    assert done.kept is not None
    if storage.file is None:
        there.restore(done.kept, force=True)
        assert names(storage) == ["after", "before"]
    else:
        assert names(storage_at(f"sqlite:///{done.kept}")) == ["after", "before"]


def test_its_files_are_for_their_owner_alone(storage: Storage, backups: Make) -> None:
    """Folders and files can be read by nobody else, whatever the umask."""
    fill(storage, "a")
    made = backups(storage).create()
    found = [made.path.parent, made.path, *made.path.iterdir()]
    assert len(found) == 4
    assert {path.stat().st_mode & 0o077 for path in found} == {0}


def test_under_load_it_is_one_moment(sqlite_url: str, tmp_path: Path, backups: Make) -> None:
    """Backups that are made while calls are booked restore to books that agree: records, hours and days."""
    storage = storage_at(sqlite_url)
    there, over = backups(storage), threading.Event()
    with opened(storage, tmp_path / "outbox") as ledger:

        def book() -> None:
            number = 0
            while not over.is_set():
                for _ in range(20):
                    ledger.seal(answered(f"call-{number:06}"))
                    number += 1
                ledger.writer.flush()

        booking = threading.Thread(target=book)
        booking.start()
        try:
            made = [there.create() for _ in range(5)]
        finally:
            over.set()
            booking.join()
        last = counted(storage)
    found = []
    for number, backup in enumerate(made):
        restored = storage_at(f"sqlite:///{tmp_path}/restored-{number}.db")
        backups(restored, "backups").restore(backup.name)
        with restored.opened():
            sums = counted(restored)
        assert len(set(sums)) == 1
        found.append(sums[0])
    assert found == sorted(found)
    assert found[-1] <= last[0]
    assert found[0] < found[-1], "nothing was written meanwhile"


SLOW = """
import sys
from pathlib import Path
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit.storage.backup import Backups, sqlite

def waiting(*_):
    print("half done", flush=True)
    sys.stdin.readline()

sqlite.files.compress = waiting
Backups(Storage(DatabaseSettings(url=sys.argv[1])), Path(sys.argv[2])).create()
"""


def test_one_that_was_killed_is_not_there(sqlite_url: str, backups: Make) -> None:
    """While it is made, another is refused; killed half-way, it is in no list, and the next one clears it away."""
    storage = storage_at(sqlite_url)
    fill(storage, "a")
    there = backups(storage)
    process = start(SLOW, sqlite_url, str(there.folder.path))
    assert process.stdout is not None
    assert process.stdout.readline() == "half done\n"
    with pytest.raises(Busy):
        there.create()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert there.list() == []
    assert list(there.folder.path.glob(".partial-*"))
    made = there.create()
    assert [backup.name for backup in there.list()] == [made.name]
    assert not list(there.folder.path.glob(".partial-*"))


def test_the_first_two_may_come_together(tmp_path: Path) -> None:
    """Both would make the folder: one of them has it to itself, the other is told that it is busy, if anything."""

    def enter(folder: BackupFolder, together: threading.Barrier) -> None:
        together.wait()
        with suppress(Busy), folder.alone():
            pass

    with ThreadPoolExecutor(2) as pool:
        for place in range(50):
            both = repeat(BackupFolder(tmp_path / str(place)), 2), repeat(threading.Barrier(2), 2)
            list(pool.map(enter, *both))


def test_it_can_be_stopped(storage: Storage, backups: Make) -> None:
    """Told to stop, it leaves nothing behind."""
    fill(storage, "a")
    stop = threading.Event()
    stop.set()
    there = backups(storage)
    if storage.file is None:
        there._engine._program = lambda name: _sleeper(there.folder.path)  # type: ignore[union-attr, method-assign]
    with pytest.raises(BackupError, match="stopped"):
        there.create(stop)
    assert there.list() == []
    assert not list(there.folder.path.glob(".partial-*"))


def _sleeper(folder: Path) -> str:
    program = folder / "sleeper"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    return str(program)


def _manifest(backup: Backup, **changed: object) -> None:
    document = msgspec.to_builtins(backup.manifest) | changed
    (backup.path / manifest.NAME).write_bytes(msgspec.json.encode(document))


def _flip(backup: Backup) -> None:
    file = backup.path / backup.manifest.file
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _cut_and_sign(backup: Backup) -> None:
    """Shorter, with a manifest that says so: only who reads it finds out."""
    file = backup.path / backup.manifest.file
    os.truncate(file, file.stat().st_size * 2 // 3)
    size, sha256 = files.digest(file)
    _manifest(backup, size=size, sha256=sha256)


def _other_rows(backup: Backup) -> None:
    contents = backup.manifest.contents
    _manifest(backup, contents={"revisions": contents.revisions, "rows": {**contents.rows, "call_records": 7}})


DAMAGES: dict[str, Callable[[Backup], object]] = {
    "a bit": _flip,
    "cut": _cut_and_sign,
    "no file": lambda backup: (backup.path / backup.manifest.file).unlink(),
    "no manifest": lambda backup: (backup.path / manifest.NAME).unlink(),
    "no sense": lambda backup: (backup.path / manifest.NAME).write_bytes(b"{\xff"),
    "rows": _other_rows,
    "format": lambda backup: _manifest(backup, format=2),
}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_never_put_back(sqlite_url: str, backups: Make, damage: str, compress: bool) -> None:
    """Whatever happened to a backup, neither `verify` nor `restore` takes it, and the database stays as it is."""
    storage = storage_at(sqlite_url)
    fill(storage, "a")
    there = backups(storage, compress=compress)
    made = there.create()
    DAMAGES[damage](made)
    with pytest.raises(BackupError):
        there.verify(made.name)
    with pytest.raises(BackupError):
        there.restore(made.name, force=True)
    assert names(storage) == ["a"]


def test_pages_are_checked(sqlite_url: str, backups: Make) -> None:
    """A page that makes no sense is found, although size and check sum are those of the manifest."""
    storage = storage_at(sqlite_url)
    fill(storage, *(f"call-{number:04}" for number in range(500)))
    there = backups(storage, compress=False)
    made = there.create()
    file = made.path / made.manifest.file
    with closing(sqlite3.connect(file)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_call_records_began'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as database:
        database.seek(page * size - 200)
        database.write(b"\xff" * 200)
    size, sha256 = files.digest(file)
    _manifest(made, size=size, sha256=sha256)
    with pytest.raises(BackupError, match="damaged"):
        there.verify()


def test_a_damaged_database_gives_no_backup(sqlite_url: str, backups: Make) -> None:
    """What cannot be read whole is told, and older backups stay."""
    storage = storage_at(sqlite_url)
    fill(storage, *(f"call-{number:04}" for number in range(500)))
    there = backups(storage)
    good = there.create()
    assert storage.file is not None
    with storage.file.open("r+b") as database:
        database.seek(storage.file.stat().st_size // 2)
        database.write(b"\xff" * 20_000)
    with pytest.raises(BackupError, match="damaged"):
        there.create()
    assert [backup.name for backup in there.list()] == [good.name]
    there.restore(force=True)
    assert len(names(storage)) == 500


def test_a_database_that_is_there_is_not_replaced_unasked(storage: Storage, backups: Make) -> None:
    """Without `force` nothing happens to it."""
    fill(storage, "a")
    there = backups(storage)
    there.create()
    fill(storage, "b")
    with pytest.raises(BackupError, match="is there already"):
        there.restore()
    assert names(storage) == ["a", "b"]


def test_each_database_that_is_replaced_is_kept(sqlite_url: str, backups: Make) -> None:
    """Also where several are within one second."""
    storage = storage_at(sqlite_url)
    fill(storage, "a")
    there = backups(storage)
    there.create()
    kept = []
    for name in ("b", "c", "d"):
        fill(storage, name)
        kept.append(there.restore(force=True).kept)
    assert [names(storage_at(f"sqlite:///{path}")) for path in kept] == [["a", "b"], ["a", "c"], ["a", "d"]]


def test_a_database_in_use_is_not_replaced(storage: Storage, backups: Make) -> None:
    """While a gateway runs, restoring is refused even with `force`; the gateway notices nothing."""
    fill(storage, "a")
    there = backups(storage)
    there.create()
    with storage.opened():
        with storage.transaction(write=False) as session:
            ids(session)
        with pytest.raises(StorageError, match="in use by a running gateway"):
            there.restore(force=True)
        fill(storage, "b")
    assert names(storage) == ["a", "b"]


def test_nobody_opens_what_is_being_replaced(sqlite_url: str) -> None:
    """A gateway that starts meanwhile is told so."""
    from gatewaykit.storage.holding import alone

    storage = storage_at(sqlite_url)
    fill(storage, "a")
    assert storage.file is not None
    with alone(storage.file), pytest.raises(StorageError, match="being replaced"), storage.opened():
        pass
    assert names(storage) == ["a"]


def test_a_newer_one_is_refused(storage: Storage, backups: Make) -> None:
    """A backup whose schema this version does not know is not put back; what it would need is said."""
    fill(storage, "a")
    with storage.opened(), storage.transaction() as session:
        session.execute(text("UPDATE alembic_version_core SET version_num = 'core_9999'"))
    there = backups(storage)
    made = there.create()
    with storage.database.migration_engine().begin() as connection:
        connection.execute(text(f"UPDATE alembic_version_core SET version_num = '{HEAD}'"))
    for attempt in (there.verify, lambda: there.restore(made.name, force=True)):
        with pytest.raises(BackupError, match=r"newer than this version: .*'core'.*core_9999"):
            attempt()
    assert names(storage) == ["a"]


def test_an_older_one_is_brought_up_to_date(sqlite_url: str, tmp_path: Path, backups: Make, plugin: Plugin) -> None:
    """`verify` says what a start would do to it, and after `restore` a start does that."""
    storage = storage_at(sqlite_url)
    fill(storage, "a")
    made = backups(storage).create()
    target = elsewhere(tmp_path, plugin("acme", acme_1=TABLE.format("colours")))
    there = backups(target)
    assert [step for step in there.verify(made.name).applied if step.before != step.after] == [
        Applied("acme", None, "acme_1")
    ]
    there.restore(made.name)
    assert names(target) == ["a"]
    assert all(state.ok for state in target.check())


def test_a_backup_elsewhere_is_looked_at_and_nothing_else(sqlite_url: str, backups: Make) -> None:
    """To verify one by its path changes nothing in the folder where it lies, which need not be one for backups, nor one
    that can be written.
    """
    storage = storage_at(sqlite_url)
    fill(storage, "a")
    there = backups(storage)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder)
        stranger = other / ".partial-download"
        stranger.mkdir()
        copy = other / "copy"
        shutil.copytree(there.create().path, copy)
        assert there.verify(str(copy)).backup.path == copy
        assert sorted(other.iterdir()) == [stranger, copy]


def test_another_kind_of_database_is_refused(sqlite_url: str, postgres_url: str, tmp_path: Path, backups: Make) -> None:
    """A copy of SQLite is not put into Postgres, nor the other way round; a path leads to a backup elsewhere."""
    small, large = storage_at(sqlite_url), storage_at(postgres_url)
    fill(small, "a")
    fill(large, "b")
    made = [backups(small, "small").create(), backups(large, "large").create()]
    with pytest.raises(BackupError, match="another kind"):
        backups(large, "large").restore(str(made[0].path), force=True)
    with pytest.raises(BackupError, match="another kind"):
        backups(small, "small").restore(str(made[1].path), force=True)
    assert (names(small), names(large)) == (["a"], ["b"])


def test_where_backups_cannot_go_is_told(sqlite_url: str, tmp_path: Path) -> None:
    """A folder that is no folder, or whose own folder is missing, perhaps an unmounted disk, is an error that names it;
    nothing is made in its place. So is a database that is not there.
    """
    storage = storage_at(sqlite_url)
    with pytest.raises(BackupError, match=r"gatewaykit\.db does not exist"):
        Backups(storage, tmp_path / "backups").create()
    fill(storage, "a")
    (tmp_path / "file").touch()
    for folder, why in (("no/backups", "No such file"), ("file", "File exists"), ("file/backups", "Not a directory")):
        with pytest.raises(BackupError, match=f"{folder} takes no backup: {why}"):
            Backups(storage, tmp_path / folder).create()
    assert not (tmp_path / "no").exists()
    with pytest.raises(BackupError, match="there is no backup"):
        Backups(storage, tmp_path / "backups").verify()


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from gatewaykit.cli import main
main()
"""


@pytest.mark.parametrize("room", [100_000, 4096])
def test_a_full_disk_leaves_no_half_of_one(sqlite_url: str, backups: Make, room: int) -> None:
    """Where the copy finds no room (RLIMIT_FSIZE), the command says so and exits with 1; nothing is left of it."""
    storage = storage_at(sqlite_url)
    fill(storage, *(f"call-{number:04}" for number in range(500)))
    assert storage.file is not None
    there = backups(storage, f"{storage.file.name}-backups")
    there.create()
    process = start(FULL, str(room), "backup", "create", GATEWAYKIT_DATABASE__URL=sqlite_url)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "cannot be read or copied" in err or "takes no backup" in err
    assert "Traceback" not in err
    assert len(there.list()) == 1
    there.verify()


def test_old_ones_go(tmp_path: Path) -> None:
    """The newest stay, by number and by age, and the last one whatever its age."""
    folder, now = BackupFolder(tmp_path / "backups"), datetime(2026, 11, 27, tzinfo=UTC)
    made = [now - timedelta(days=days) for days in (40, 30, 20, 10)]
    with folder.alone():
        for moment in made:
            with folder.adding(moment) as partial:
                (partial / "x").touch()
        everyone = folder.names()
        assert everyone == [name_of(moment) for moment in made]
        assert folder.prune(now, keep=0, keep_days=0) == []
        assert folder.prune(now, keep=3, keep_days=35) == everyone[:1]
        assert folder.prune(now, keep=0, keep_days=25) == everyone[1:2]
        assert folder.prune(now, keep=0, keep_days=5) == everyone[2:3]
        assert folder.names() == everyone[3:]
    assert folder.newest() == made[-1]
