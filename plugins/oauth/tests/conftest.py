"""Databases for keys: an SQLite file for each test, and a real Postgres with a database for each test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.settings import DatabaseSettings
from gatewaykit.storage import Storage
from gatewaykit.testing.servers import RedisServer
from gatewaykit.types import Incoming
from gatewaykit_oauth import plugin
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.authenticator import ApiKeys
from gatewaykit_oauth.keys.model import Actor, Created, KeySpec
from gatewaykit_oauth.keys.secrets import Secrets
from gatewaykit_oauth.settings import KeysSettings

PEPPER = "canary-pepper-7c1e0f2b9a4d6853c0ff"
OPERATOR = Actor("cli")
SECRETS = Secrets(PEPPER)
NOW = datetime(2027, 1, 31, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults that are relative paths, such as that of the outbox beside a Postgres, lie in the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    """A database with the tables of keys, open."""
    with storage_at(url).opened() as opened:
        yield opened


def storage_at(url: str, **settings: Any) -> Storage:
    """The database at ``url``, with the tables of keys once it is opened."""
    return Storage(DatabaseSettings(url=url, **settings), list(plugin.gateway_migrations()))


def made(storage: Storage, name: str = "mine", *, secrets: Secrets = SECRETS, **spec: Any) -> Created:
    """A new key, made by the machine's operator."""
    with storage.transaction() as session:
        return store.create(session, OPERATOR, KeySpec(name=name, **spec), secrets=secrets)


def text_of(created: Created) -> str:
    """The secret of a key that was just made."""
    assert created.secret is not None
    return created.secret


@asynccontextmanager
async def keys_at(url: str, *, redis: Any = None, **settings: Any) -> AsyncIterator[ApiKeys]:
    """The authenticator over a database that keys are in, as one process of the gateway runs it."""
    database = DatabaseSettings(url=url)
    keys = KeysSettings(**{"pepper": PEPPER, **settings})
    storage = storage_at(url)
    async with storage.lifespan():
        api_keys = ApiKeys(storage, keys, database, redis)
        async with api_keys.lifespan():
            yield api_keys


def incoming(key: str | None = None, client: str | None = "192.0.2.1", **headers: str) -> Incoming:
    """A request with this key."""
    given = {"authorization": f"Bearer {key}"} if key else {}
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    return Incoming("POST", "/v1/chat/completions", given, client, "req")


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


@pytest.fixture
def redis_url(redis_store: RedisServer) -> str:
    """A Redis that others use too, under other names."""
    return redis_store.url
