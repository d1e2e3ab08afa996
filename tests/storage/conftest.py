"""Databases for tests: an SQLite file each, and a real Postgres of which every test has a database of its own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.migration import MigrationSource
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit.testing import program

Open = Callable[..., Storage]


@pytest.fixture(autouse=True)
def _own_migrations(own_migrations: None) -> None:
    """Migrations are what these tests are about."""


@pytest.fixture
def storage(url: str) -> Storage:
    """A database that is not open yet."""
    return storage_at(url)


def storage_at(url: str, *sources: MigrationSource, **settings: Any) -> Storage:
    """The database at ``url`` with the migrations of these plugins."""
    return Storage(DatabaseSettings(url=url, **settings), sources)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MigrationSource]:
    """Make a package of migrations: ``plugin("acme", acme_1="op.create_table(...)")``, each after the one before."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def make(label: str, **revisions: str) -> MigrationSource:
        package = f"{label}_of_{tmp_path.name.replace('-', '_')}"
        versions = folder / package / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        before: str | None = None
        for revision, body in revisions.items():
            lines = [
                "import sqlalchemy as sa",
                "from alembic import op",
                f"revision, down_revision = {revision!r}, {before!r}",
                "def upgrade():",
                *(f"    {line}" for line in body.splitlines()),
            ]
            (versions / f"{revision}.py").write_text("\n".join(lines))
            before = revision
        importlib.invalidate_caches()
        return MigrationSource(label, package)

    return make


def inherited() -> dict[str, str]:
    """This process's environment without settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAYKIT_")}


def start(source: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """A Python process that runs ``source``; its settings come from ``environ`` alone."""
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited() | environ,
    )


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``gatewaykit`` with these arguments."""
    return program.run(*arguments, folder=Path.cwd(), environ=inherited() | environ)


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command printed."""
    return json.loads(done.stdout)
