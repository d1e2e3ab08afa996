"""A cluster: all keys of a gateway are in one slot, and the link finds the node that has it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from gatewaykit.limiting import Charge
from gatewaykit.limiting.redis import RedisBackend
from gatewaykit.limits import Limit
from gatewaykit.testing.servers import wait_for

from ..limiting.conftest import seed
from .conftest import PATIENT, PROGRAMS, link_to

LIMITS = (
    Limit("all", "requests", 1000, 60),
    Limit("key:{k}", "tokens", 1000, 60),
    Limit("user:u", "concurrency", 10, 0),
    Limit("model:m", "money", 1000, "month"),
    Limit("key:{k}", "requests", 1000, 86400),
)
SLOTS = 16384


def free_port() -> int:
    """A port such that the cluster's own talk finds room where Redis puts it, 10 000 above."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 10_000))
                return port


@contextmanager
def node(program: str) -> Iterator[tuple[int, redis.Redis]]:
    """A node of a cluster that has no slots yet: its port, and a client."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="gk-node-"))
    options = [
        "--port",
        str(port),
        "--cluster-enabled",
        "yes",
        "--save",
        "",
        "--dir",
        str(folder),
        "--bind",
        "127.0.0.1",
    ]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = redis.Redis(port=port, decode_responses=True)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    try:
        wait_for(answers)
        yield port, client
    finally:
        client.close()
        process.kill()
        process.wait()
        shutil.rmtree(folder)


async def use(port: int) -> None:
    """Do all that a backend can; a hold that nobody settles ends while another subject is asked for."""
    link = link_to(f"redis://127.0.0.1:{port}", timeout=PATIENT)
    now = [1_800_000_000.0]
    backend = RedisBackend(link, clock=lambda: now[0])
    async with link.lifespan():
        await seed(backend, LIMITS[3], 3, now[0])
        assert (await backend.reserve("h", [Charge(limit, 1) for limit in LIMITS])).taken
        await backend.renew({"h": LIMITS[1:4]})
        await backend.settle("h", [Charge(limit, 2) for limit in LIMITS[1:4]])
        await link.publish("news", b"x")
        assert [standing.used for standing in await backend.standings(LIMITS)] == [1, 2, 0, 5, 1]
        assert (await backend.reserve("lost", [Charge(LIMITS[2], 1), Charge(LIMITS[3], 4)])).taken
        now[0] += backend.lease
        assert (await backend.reserve("next", [Charge(LIMITS[0], 1)])).taken
        assert [standing.used for standing in await backend.standings(LIMITS[2:4])] == [0, 5]
        assert link.counters.failed == 0


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_node_that_has_all_slots(name: str) -> None:
    """In cluster mode, where a script may touch one slot only, everything works."""
    with node(PROGRAMS[name]()) as (port, client):
        await asyncio.to_thread(give_all_slots, client)
        await use(port)


async def test_a_node_that_has_none() -> None:
    """The link that was given some node of a cluster goes to the one that has the keys."""
    program = PROGRAMS["valkey"]()
    with node(program) as (port, client), node(program) as (other_port, other):
        await asyncio.to_thread(give_all_slots, other)
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", other_port)
        await asyncio.to_thread(wait_for, lambda: client.cluster("INFO")["cluster_state"] == "ok")
        with pytest.raises(redis.ResponseError, match=r"(MOVED )?\d+ 127.0.0.1"):
            client.get("x")
        await use(port)
        assert any(key.startswith("{gatewaykit}:") for key in other.scan_iter("*"))


def give_all_slots(client: redis.Redis) -> None:
    """Make the node a cluster of its own."""
    client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
    wait_for(lambda: client.cluster("INFO")["cluster_state"] == "ok")
