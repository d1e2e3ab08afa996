"""Which records are for which database: that says the database, not its address."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from gatewaykit import ConfigError
from gatewaykit.builtin.ledger.ledger import _prefix
from gatewaykit.storage import Storage
from gatewaykit.storage.backup import Backups
from gatewaykit.storage.identity import identity
from gatewaykit.testing import make_gateway

from .conftest import down, ids, ledger_at, opened, record, segments, storage_at, write


def identity_of(storage: Storage) -> str:
    """What the database says."""
    with storage.opened(), storage.transaction(write=False) as session:
        return identity(session)


def at_another_address(url: str, folder: Path) -> str:
    """The same database by another URL."""
    link = folder / "link"
    place = Path(str(make_url(url).query["host"]) if url.startswith("postgresql") else make_url(url).database or "")
    place = place if place.is_dir() else place.parent
    link.symlink_to(place, target_is_directory=True)
    return url.replace(str(place), str(link))


def test_a_database_under_another_address_is_the_same(url: str, tmp_path: Path, folder: Path) -> None:
    """After a failover records are found that were left for it before, under the host it had then."""
    storage, other = storage_at(url), storage_at(at_another_address(url, tmp_path))
    assert _prefix(storage) != _prefix(other)
    with opened(storage, folder) as ledger:
        write(ledger, record("before"))
        with down(storage):
            write(ledger, record("meanwhile"))
    with opened(other, folder) as ledger:
        ledger.writer.flush()
        assert ids(other) == ["before", "meanwhile"]
    assert segments(folder) == []


def test_two_databases_at_one_address_are_two(
    postgres_url: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two schemas that show one address do not get one another's records; that some were left is in the log, once."""
    mark = "&" if "?" in postgres_url else "?"
    first, second = (storage_at(f"{postgres_url}{mark}options=-csearch_path%3D{name}") for name in ("one", "two"))
    assert first.address == second.address
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in ("one", "two"):
            connection.execute(f"CREATE SCHEMA {name}".encode())
    with opened(first, folder) as ledger:
        ledger.writer.flush()
        with down(first):
            write(ledger, record("for the first"))
    with opened(second, folder) as ledger:
        write(ledger, record("for the second"))
        ledger.writer.flush()
        assert ids(second) == ["for the second"]
    assert caplog.text.count(f"1 files in the outbox {folder} are of other databases and left alone") == 1
    with opened(first, folder) as ledger:
        ledger.writer.flush()
        assert ids(first) == ["for the first"]


def test_records_of_before_the_first_word_are_for_their_address(url: str, tmp_path: Path, folder: Path) -> None:
    """What is sealed before a database could say who it is has the whole of its address for a name."""
    ledger = ledger_at(storage_at(url), folder)
    ledger.seal(record("early"))
    ledger.outbox.close()
    other = storage_at(f"sqlite:///{tmp_path}/other.db")
    with opened(other, folder) as ledger:
        ledger.writer.flush()
        assert ids(other) == []
    storage = storage_at(url)
    with opened(storage, folder) as ledger:
        ledger.writer.flush()
        assert ids(storage) == ["early"]


def test_a_password_is_no_part_of_a_files_name() -> None:
    """A new one finds the files, and nobody learns from them whether a guess is right."""
    for url in ("postgresql://user:{}@host/g", "postgresql://user@host/g?password={}"):
        assert len({_prefix(storage_at(url.format(password))) for password in ("old", "new")}) == 1


def test_what_is_made_from_a_backup_is_the_same_database(sqlite_url: str, tmp_path: Path) -> None:
    """Records that waited for the one are written into the other; a new database is another one."""
    storage, restored = storage_at(sqlite_url), storage_at(f"sqlite:///{tmp_path}/restored.db")
    first = identity_of(storage)
    Backups(storage, tmp_path / "backups").create()
    Backups(restored, tmp_path / "backups").restore()
    assert identity_of(restored) == identity_of(storage) == first
    assert identity_of(storage_at(f"sqlite:///{tmp_path}/new.db")) != first


async def test_a_folder_without_locks_is_refused(
    postgres_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway does not start, says why, and leaves no files."""

    def none_left(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    gateway = make_gateway(database={"url": postgres_url}, ledger={"outbox": str(folder)})
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", none_left)
        with pytest.raises(ConfigError, match=r"ledger\.outbox: .*/outbox takes no locked files: No locks available"):
            await gateway.start()
    await gateway.stop()
    assert list(folder.iterdir()) == []
