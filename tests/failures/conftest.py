"""Real stores that fail, and a gateway before them: what is asked of it is held against the page, row by row."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gatewaykit import Finished, Gateway, Provider, Target, TextDelta, Usage
from gatewaykit.testing import KEY, gateway_client, make_gateway, plugin_of
from gatewaykit.testing.servers import PostgresServer, RedisServer, redis_program, redis_server, valkey_program
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE

from .page import Row, rows
from .proxy import Wire, wire_to

MODEL = "m"
PEPPER = "a pepper for tests, longer than it has to be"
DATABASE = {"pool_size": 2, "timeout": 10, "busy_timeout": 0.5}
"""The database's limits in tests; those in which it hangs have shorter ones."""

HOOK = 30.0
"""Seconds: a database that is well is never too slow for a look-up, however busy the machine is."""


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The row of the page that is named like the test: ``test_db_down_new_key`` is ``db-down-new-key``."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")
    return rows()[name]


@pytest.fixture
async def postgres(postgres_server: PostgresServer) -> AsyncIterator[PostgresServer]:
    """A Postgres that is well again after the test."""
    before = set(postgres_server.databases)
    yield postgres_server
    await asyncio.to_thread(postgres_server.thaw)
    await asyncio.to_thread(postgres_server.start)
    await asyncio.to_thread(postgres_server.drop, *set(postgres_server.databases) - before)


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """An empty database of the test's own in it."""
    return postgres.url(postgres.database())


@dataclass(frozen=True)
class Wired:
    """A database behind a wire: ``url`` goes through it, ``direct`` does not."""

    wire: Wire
    url: str
    direct: str


@pytest.fixture
async def wired(postgres: PostgresServer) -> AsyncIterator[Wired]:
    """An empty database of the test's own, behind a wire."""
    name = postgres.database()
    async with wire_to(postgres.socket) as wire:
        yield Wired(wire, f"postgresql://postgres@127.0.0.1:{wire.port}/{name}", postgres.url(name))


def recorded(url: str) -> list[str]:
    """The ids of the calls in the ledger, sorted; one that is there twice is there twice."""
    with psycopg.connect(url) as connection:
        return sorted(str(found[0]) for found in connection.execute("SELECT request_id FROM call_records"))


@pytest.fixture(params=[redis_program, valkey_program], ids=["redis", "valkey"])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A Redis or a Valkey of the test's own."""
    with redis_server(request.param()) as server:
        yield server


class Answers(Provider):
    """Answers at once, and says what it used."""

    name = "answers"

    async def stream(self, call: Any, target: Target) -> AsyncIterator[Any]:
        yield TextDelta("Hello")
        yield Finished("stop")
        yield Usage(3, 2)


class World:
    """A gateway on a socket, and what a test asks of it."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.http = http
        self.calls: list[str] = []

    async def ask(self, key: str = KEY) -> httpx.Response:
        """Call the model; ``calls`` has the id of the request then."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}
        response = await self.http.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
        self.calls.append(response.headers["x-request-id"])
        return response

    async def ask_times(self, number: int, key: str = KEY) -> list[httpx.Response]:
        """Call the model so often, one call after the other."""
        return [await self.ask(key) for _ in range(number)]

    async def until_answered(self, status: int, ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """The first answer with this status; for what comes back without anybody's help."""
        async with asyncio.timeout(60):
            while (response := await ask()).status_code != status:
                await asyncio.sleep(0.02)
        return response

    async def new_key(self, **spec: Any) -> httpx.Response:
        """Make an API key, as an administrator does."""
        return await self.http.post("/api/admin/keys", json={"name": "test", **spec})

    async def key(self, **spec: Any) -> str:
        """The secret of a new API key that nobody has used yet."""
        made = await self.new_key(**spec)
        assert made.status_code == 201, made.text
        return str(made.json()["secret"])

    async def remaining_when(self, log: Log, *words: str) -> str:
        """Ask until the log has a line with these words; how many requests the last call left."""
        async with asyncio.timeout(60):
            while True:
                answer = await self.ask()
                if log.lines(*words):
                    return answer.headers["x-ratelimit-remaining-requests"]
                await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
def _stops_cleanly(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever failed meanwhile, the gateway stops as it should, and no request met a defect."""
    yield
    lines = [record.getMessage() for record in caplog.get_records("call")]
    assert not [
        line for line in lines if "could not stop" in line or (line.startswith("request ") and "failed" in line)
    ]


Opener = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def world(tmp_path: Path) -> Opener:
    """Open a gateway: ``async with world(url, redis.url) as it``. Further arguments are sections."""

    folders = (tmp_path / f"outbox-{number}" for number in itertools.count())

    @asynccontextmanager
    async def opened(url: str | None = None, redis_url: str | None = None, **config: Any) -> AsyncIterator[World]:
        gateway = build(next(folders), url, redis_url, **config)
        async with gateway_client(gateway) as http:
            yield World(gateway, http)

    return opened


def build(folder: Path, url: str | None, redis_url: str | None, **config: Any) -> Gateway:
    """The gateway of a world. Its first key may do everything."""
    from gatewaykit_oauth import plugin as keys

    scopes = {"scopes": {"test": [INFERENCE, USAGE, KEYS, ADMIN]}, "keys": {"test": KEY}}
    given: dict[str, Any] = {"static_keys": scopes, **config, "timeouts": {"hook": HOOK, **config.get("timeouts", {})}}
    plugins: list[Any] = [plugin_of(providers=[Answers()])]
    if url is not None:
        given["database"] = {"url": url, **DATABASE, **config.get("database", {})}
        given["ledger"] = {"outbox": str(folder), **config.get("ledger", {})}
        given["keys"] = {"pepper": PEPPER, **config.get("keys", {})}
        plugins.append(keys)
    if redis_url is not None:
        given["redis"] = {"url": redis_url, "cooldown": 0.2, **config.get("redis", {})}
    return make_gateway(*plugins, **given)


class Log:
    """The lines of the gateway's log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    async def until(self, *words: str) -> None:
        """A line with all of these words has come."""
        async with asyncio.timeout(60):
            while not self.lines(*words):
                await asyncio.sleep(0.02)

    def lines(self, *words: str) -> list[str]:
        """Those with all of these words."""
        found = [f"{record.name}: {record.getMessage()}" for record in self._caplog.records]
        return [line for line in found if all(word in line for word in words)]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """What the gateway has logged, from ``info`` upwards."""
    caplog.set_level(logging.INFO, "gatewaykit")
    caplog.set_level(logging.INFO, "gatewaykit_oauth")
    return Log(caplog)
