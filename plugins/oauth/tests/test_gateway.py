"""Keys in a gateway: over HTTP, in several processes, with and without Redis, and while Postgres is away."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gatewaykit.redislink import RedisLink
from gatewaykit.settings import RedisSettings
from gatewaykit.storage import Storage
from gatewaykit.testing import gateway_client, make_gateway
from gatewaykit.testing.gateways import KEY
from gatewaykit.testing.processes import children_of, connections_of
from gatewaykit.testing.servers import PostgresServer
from gatewaykit.testing.waiting import until
from gatewaykit_oauth import plugin
from gatewaykit_oauth.keys.format import new_key

from .conftest import PEPPER, keys_at, made, storage_at, text_of
from .test_revocation import NEVER, is_valid, revoke, until_refused

PATIENCE = 60.0
PATIENT = {"hook": 30}
"""However busy the machine is, a key that is looked up in a database that is well is found in time."""

CLIENTS = 24


def bearer(key: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {key}"}


async def test_over_http(url: str, storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """A key opens what it may open; static keys still work; refusals are 401 with a challenge or 403; and neither keys
    nor pepper are in any answer or log line."""
    caplog.set_level(logging.DEBUG)
    good, narrow = made(storage), made(storage, networks=("192.0.2.0/24",))
    elsewhere, idle = made(storage, routes=("/v1/chat/*",)), made(storage, scopes=("usage",))
    gateway = make_gateway(plugin, database={"url": url}, keys={"pepper": PEPPER}, timeouts=PATIENT)
    said = []
    async with gateway_client(gateway) as client:
        for key, status in (
            (KEY, 200),
            (text_of(good), 200),
            (text_of(narrow), 403),
            (text_of(elsewhere), 403),
            (text_of(idle), 403),
            (new_key("live"), 401),
            (text_of(good)[:-1] + ("x" if text_of(good)[-1] != "x" else "y"), 401),
        ):
            for headers in (bearer(key), {"authorization": "", "x-api-key": key}):
                answer = await client.get("/v1/models", headers=headers)
                assert answer.status_code == status, (key[:8], answer.text)
                assert status != 401 or "Bearer" in answer.headers["www-authenticate"]
                said.append(answer.text + str(answer.headers))
    lines = "\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    for secret in (text_of(good), text_of(narrow), text_of(good)[8:40], PEPPER):
        assert secret not in lines
        assert secret not in "".join(said)


async def test_while_postgres_lets_nobody_in(postgres_server: PostgresServer, postgres_url: str) -> None:
    """Keys that were used work on; others get 503 with Retry-After; and all is well when Postgres is back."""
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with storage_at(postgres_url).opened() as storage:
        used, fresh = made(storage), made(storage)
    settings = {"pepper": PEPPER, "poll_seconds": 0.1}
    gateway = make_gateway(plugin, database={"url": postgres_url}, keys=settings, timeouts=PATIENT)

    def let_in(allowed: bool) -> None:
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}")
            if not allowed:
                ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                connection.execute(ends, [name])

    async with gateway_client(gateway) as client:

        async def status(key: str) -> tuple[int, bool]:
            answer = await client.get("/v1/models", headers=bearer(key))
            return answer.status_code, "retry-after" in answer.headers

        assert await status(text_of(used)) == (200, False)
        feed = plugin._made[gateway]._running()[0].feed
        let_in(False)
        try:
            await until(lambda: feed.down, PATIENCE)
            for _ in range(3):
                assert await status(text_of(used)) == (200, False)
                assert await status(text_of(fresh)) == (503, True)
        finally:
            let_in(True)
        await until(lambda: not feed.down, PATIENCE)
        assert await status(text_of(fresh)) == (200, False)


async def test_redis_tells_others_at_once(url: str, storage: Storage, redis_url: str) -> None:
    """With Redis a revocation at one gateway reaches another long before it would ask."""
    created = made(storage)
    redis = RedisLink(RedisSettings(url=redis_url))
    rare: dict[str, Any] = {"redis": redis, **NEVER}
    async with redis.lifespan(), keys_at(url, **rare) as here, keys_at(url, **rare) as there:
        assert await is_valid(there, text_of(created))
        await asyncio.to_thread(revoke, storage, created.key.id)
        await here.changed()
        assert not await is_valid(here, text_of(created))
        await until_refused(there, text_of(created))


async def test_redis_may_be_away(url: str, storage: Storage, tmp_path: Path) -> None:
    """When Redis does not answer, a change still takes effect here, and elsewhere after the next poll."""
    created = made(storage)
    redis = RedisLink(RedisSettings(url=f"unix://{tmp_path}/nobody"))
    async with (
        redis.lifespan(),
        keys_at(url, redis=redis) as here,
        keys_at(url, redis=redis, poll_seconds=0.2) as there,
    ):
        assert await is_valid(there, text_of(created))
        await asyncio.to_thread(revoke, storage, created.key.id)
        await here.changed()
        assert not await is_valid(here, text_of(created))
        await until_refused(there, text_of(created))


class Served:
    """``gatewaykit serve`` in a process of its own, and what it has written."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors
        eventually(lambda: re.search(r"http://127\.0\.0\.1:\d+", self.errors))
        self.url = re.findall(r"http://127\.0\.0\.1:\d+", self.errors)[0]

    @property
    def errors(self) -> str:
        """Standard error, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._errors.read_text())

    @property
    def workers_in_use(self) -> int:
        """How many worker processes have at least one connection of a client."""
        port = int(self.url.rpartition(":")[2])
        return sum(connections_of(pid, port) > 0 for pid in children_of(self.process.pid))


def eventually(condition: Any, seconds: float = PATIENCE) -> None:
    """Wait for the condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


@contextmanager
def served(folder: Path, workers: int, **config: dict[str, Any]) -> Iterator[Served]:
    """The program with this configuration, and without the throttle that would soon answer for the keys."""
    others = ["auth-throttle"]
    others += [entry.name for entry in entry_points(group="gatewaykit") if entry.name != "oauth"]
    document = {"plugins": {"blocked": others}, "log": {"level": "debug"}, "timeouts": PATIENT, **config}
    lines = [
        f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in section.items())
        for name, section in document.items()
    ]
    (folder / "gatewaykit.toml").write_text("\n".join(lines))
    program = str(Path(sysconfig.get_path("scripts")) / "gatewaykit")
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [program, "serve", "--workers", str(workers), "--port", "0"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            yield Served(process, folder / "errors")
        finally:
            process.terminate()
            process.wait(PATIENCE)


def until_refused_by_all(running: Served, workers: int, created: Any, end: Any) -> None:
    """Use the key on many connections, so that every worker remembers it; end it; and wait until all refuse it."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                httpx.Client(base_url=running.url, headers=bearer(text_of(created)), trust_env=False, timeout=PATIENCE)
            )
            for _ in range(CLIENTS)
        ]

        def statuses() -> set[int]:
            return {client.get("/v1/models").status_code for client in clients}

        assert statuses() == {200}
        assert running.workers_in_use == workers
        end()
        eventually(lambda: statuses() == {401})
        assert statuses() == {401}


def test_four_workers_refuse_a_revoked_key(tmp_path: Path) -> None:
    """Without Redis every worker refuses a key that another process revoked, after its next poll; and
    the log of all of them holds neither key nor pepper."""
    url = f"sqlite:///{tmp_path}/gatewaykit.db"
    with (
        served(tmp_path, 4, database={"url": url}, keys={"pepper": PEPPER}, timeouts=PATIENT) as running,
        storage_at(url).opened() as storage,
    ):
        created = made(storage)
        until_refused_by_all(running, 4, created, lambda: revoke(storage, created.key.id))
        for secret in (text_of(created), text_of(created)[8:40], PEPPER):
            assert secret not in running.errors


def test_workers_with_redis_refuse_a_revoked_key(tmp_path: Path, redis_url: str) -> None:
    """With Redis every worker of another gateway refuses it, however rarely it asks."""
    url = f"sqlite:///{tmp_path}/gatewaykit.db"
    config = {
        "database": {"url": url},
        "redis": {"url": redis_url},
        "keys": {"pepper": PEPPER, **NEVER},
    }
    with served(tmp_path, 2, **config) as running, storage_at(url).opened() as storage:
        created = made(storage)

        def end() -> None:
            revoke(storage, created.key.id)
            asyncio.run(tell())

        async def tell() -> None:
            redis = RedisLink(RedisSettings(url=redis_url))
            async with redis.lifespan(), keys_at(url, redis=redis) as keys:
                await keys.changed()

        until_refused_by_all(running, 2, created, end)
