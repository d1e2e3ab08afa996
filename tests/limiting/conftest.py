"""The stores that count, by name, each on a clock that only the test moves."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import pytest

from gatewaykit.limiting import Backend, MemoryBackend
from gatewaykit.limiting.database import DatabaseBackend
from gatewaykit.limiting.redis import RedisBackend
from gatewaykit.limits import Limit, slicing
from gatewaykit.storage import Storage
from gatewaykit.testing.servers import PostgresServer, RedisServer

from ..redis.conftest import PATIENT, link_to
from ..storage.conftest import storage_at

LEASE = 60.0
MIDDAY = 1_792_670_400.0
"""Thursday, 22 October 2026, 12:00:00 UTC: far from the ends of day, week and month."""

_numbers = itertools.count()


class Clock:
    """Unix time that stands still until it is moved."""

    def __init__(self, now: float = MIDDAY) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


async def seed(backend: Backend, limit: Limit, used: int, now: float = MIDDAY) -> None:
    """Begin the calendar period of ``limit`` in which ``now`` is, with ``used``."""
    await backend.seed(limit, used, slicing(limit.span, now).current if limit.span else 0)


Factory: TypeAlias = Callable[[pytest.FixtureRequest, Clock, float], AbstractAsyncContextManager[Backend]]
"""Opens a backend on a clock, with a lease in seconds; what it needs are fixtures. Its store may hold older counts."""

Opener: TypeAlias = Callable[[Clock, float], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def _memory(request: pytest.FixtureRequest, clock: Clock, lease: float) -> AsyncIterator[Backend]:
    yield MemoryBackend(lease=lease, clock=clock)


@asynccontextmanager
async def _sqlite(request: pytest.FixtureRequest, clock: Clock, lease: float) -> AsyncIterator[Backend]:
    yield DatabaseBackend(request.getfixturevalue("sqlite_storage"), lease=lease, clock=clock)


@asynccontextmanager
async def _postgres(request: pytest.FixtureRequest, clock: Clock, lease: float) -> AsyncIterator[Backend]:
    yield DatabaseBackend(request.getfixturevalue("postgres_storage"), lease=lease, clock=clock)


def _redis(store: str) -> Factory:
    @asynccontextmanager
    async def opened(request: pytest.FixtureRequest, clock: Clock, lease: float) -> AsyncIterator[Backend]:
        server: RedisServer = request.getfixturevalue(store)
        link = link_to(server.url, timeout=PATIENT)
        async with link.lifespan():
            yield RedisBackend(link, lease=lease, clock=clock)

    return opened


FACTORIES: dict[str, Factory] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "redis": _redis("redis_store"),
    "valkey": _redis("valkey_store"),
}


@pytest.fixture(params=FACTORIES)
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each of the backends: what is true of one must be true of all."""
    name: str = request.param
    return name


@pytest.fixture
def open_backend(backend_name: str, request: pytest.FixtureRequest) -> Opener:
    """How to open the backend: ``async with open_backend(clock, lease) as backend``."""
    return lambda clock, lease: FACTORIES[backend_name](request, clock, lease)


@pytest.fixture
def clock() -> Clock:
    """The time of the backend."""
    return Clock()


@pytest.fixture
async def backend(open_backend: Opener, clock: Clock) -> AsyncIterator[Backend]:
    """A backend on ``clock`` whose leases last :data:`LEASE`."""
    async with open_backend(clock, LEASE) as backend:
        yield backend


@pytest.fixture
def subject() -> str:
    """A subject that no other test has."""
    return new_subject()


def new_subject() -> str:
    """Stores are shared by tests: whoever counts in them takes a subject of its own."""
    return f"key:{next(_numbers)}"


@pytest.fixture(scope="module")
def sqlite_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """An open SQLite database for all tests of a module."""
    with storage_at(f"sqlite:///{tmp_path_factory.mktemp('limiting')}/gatewaykit.db").opened() as storage:
        yield storage


@pytest.fixture(scope="module")
def postgres_storage(postgres_server: PostgresServer) -> Iterator[Storage]:
    """An open database on a Postgres server for all tests of a module."""
    name = postgres_server.database()
    with storage_at(postgres_server.url(name)).opened() as storage:
        yield storage
    postgres_server.drop(name)
