"""Real servers of Redis and Valkey: shared ones for tests that leave them running, own ones for those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.redislink import RedisLink, Script
from gatewaykit.settings import RedisSettings
from gatewaykit.testing.servers import RedisServer, redis_program, redis_server, valkey_program

PROGRAMS = {"redis": redis_program, "valkey": valkey_program}
ECHO = Script("return ARGV[1]")
PATIENT = 10.0
"""A timeout for tests that are not about time, on machines that have other things to do."""


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Either, empty: what is true of one must be true of the other."""
    found: RedisServer = request.getfixturevalue(f"{request.param}_store")
    with found.client() as client:
        client.flushall()
        client.config_resetstat()
    return found


@pytest.fixture(params=PROGRAMS)
def fragile(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Either, to be killed and frozen."""
    with redis_server(PROGRAMS[request.param]()) as server:
        yield server


class Signpost:
    """The path of a Unix socket that leads to one server and then to another, as a name in DNS does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"unix://{path}"

    def lead_to(self, socket: str) -> None:
        """New connections go there; those that are open stay."""
        self._path.unlink(missing_ok=True)
        self._path.symlink_to(socket)


@pytest.fixture
def signpost(tmp_path: Path) -> Signpost:
    """It leads nowhere yet."""
    return Signpost(tmp_path / "redis")


@asynccontextmanager
async def babbler(socket: Path, answer: bytes) -> AsyncIterator[list[bytes]]:
    """A server that gives this answer to whatever it is asked; a list of what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := await reader.read(65536):
            asked.append(question)
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, socket):
        yield asked


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    """A patient link to the shared server."""
    link = link_to(server.url, timeout=PATIENT)
    async with link.lifespan():
        yield link


def link_to(url: str, **settings: Any) -> RedisLink:
    """A link, not open yet."""
    return RedisLink(RedisSettings(url=url, **settings))


async def eventually(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Return when ``condition()`` is true; raises :class:`TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
