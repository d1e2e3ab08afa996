"""Connections among several workers: in equal shares, and to those who can take them."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.serving.sharing import FairAcceptor, Shares
from gatewaykit.testing.processes import children_of, connections_of

from .conftest import PATIENCE, Place, Running
from .test_serve import BEARER, WITH_KEY, client, until


@given(st.integers(1, 8), st.lists(st.integers(0, 7), max_size=200))
def test_shares_stay_equal(workers: int, order: list[int]) -> None:
    """Whoever wakes first and however often: nobody gets more than one and an eighth above the others."""
    shares, numbers = Shares(workers), [0] * workers
    for worker in range(workers):
        shares.tell(worker, 0)
    for turn in order:
        worker = turn % workers
        if shares.allow(numbers[worker]):
            numbers[worker] += 1
            shares.tell(worker, numbers[worker])
    assert max(numbers) <= min(numbers) + 1 + min(numbers) // 8
    assert any(shares.allow(number) for number in numbers)


class Echo(asyncio.Protocol):
    """Says its worker's name and keeps the connection."""

    def __init__(self, acceptor: FairAcceptor, name: bytes) -> None:
        self._acceptor = acceptor
        self._name = name

    def connection_made(self, transport: Any) -> None:
        self._acceptor.connections.add(self)
        transport.write(self._name)

    def connection_lost(self, exc: Exception | None) -> None:
        self._acceptor.connections.discard(self)


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        yield listener


@asynccontextmanager
async def accepting(
    listener: socket.socket, shares: Shares, worker: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FairAcceptor]:
    with listener.dup() as own:  # as each process has a descriptor of its own
        acceptor = FairAcceptor(own, shares, worker, lambda: Echo(acceptor, b"%d" % worker), tls)
        acceptor.start()
        try:
            yield acceptor
        finally:
            acceptor.close()
            await acceptor.wait_closed()


async def connected(listener: socket.socket, stack: ExitStack) -> bytes:
    """Connect; the name of the worker that took the connection."""
    host, port = listener.getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    stack.callback(writer.close)
    return await asyncio.wait_for(reader.read(1), PATIENCE)


async def test_two_that_accept_get_as_many() -> None:
    """A burst is divided in halves, or nearly so where one of them is held up."""
    shares = Shares(2)
    with listening() as listener, ExitStack() as stack:
        async with accepting(listener, shares, 0), accepting(listener, shares, 1):
            names = await asyncio.gather(*(connected(listener, stack) for _ in range(60)))
    assert 25 <= names.count(b"0") <= 35
    assert names.count(b"0") + names.count(b"1") == 60


async def test_who_does_not_take_its_share_is_not_waited_for_long() -> None:
    """One that has fewer, and takes none, delays each connection by its patience at most."""
    shares = Shares(2)
    shares.tell(1, 0)
    with listening() as listener, ExitStack() as stack:
        async with accepting(listener, shares, 0):
            names = await asyncio.gather(*(connected(listener, stack) for _ in range(60)))
    assert names == [b"0"] * 60


async def test_who_has_left_is_not_waited_for(monkeypatch: Any) -> None:
    """One that stops or has not begun has no share."""
    monkeypatch.setattr("gatewaykit.serving.sharing.PATIENCE", 2 * PATIENCE)
    shares = Shares(3)
    with listening() as listener, ExitStack() as stack:
        async with accepting(listener, shares, 0):
            async with accepting(listener, shares, 1):
                pass
            names = await asyncio.gather(*(connected(listener, stack) for _ in range(60)))
    assert names == [b"0"] * 60


async def test_who_ends_a_connection_may_take_the_next_at_once(monkeypatch: Any) -> None:
    """A worker that has left one to the others takes it after all when its own number falls."""
    monkeypatch.setattr("gatewaykit.serving.sharing.PATIENCE", 2 * PATIENCE)
    shares = Shares(2)
    with listening() as listener, ExitStack() as stack, ExitStack() as first:
        async with accepting(listener, shares, 0):
            assert await connected(listener, first) == b"0"
            shares.tell(1, 0)
            second = asyncio.ensure_future(connected(listener, stack))
            done, _ = await asyncio.wait([second], timeout=0.05)
            assert not done
            first.close()
            assert await second == b"0"


async def test_a_connection_that_never_began_is_no_part_of_a_share() -> None:
    """Who hangs up in the middle of TLS, or speaks none, is forgotten."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(tls)
    shares = Shares(2)
    with listening() as listener:
        async with accepting(listener, shares, 0, tls):
            for said in (b"", b"GET / HTTP/1.1\r\n\r\n"):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(said)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), PATIENCE)
                writer.close()
            shares.tell(1, 0)
            while not shares.allow(0) or shares.allow(1) or min(shares._numbers) != 0:
                await asyncio.sleep(0)


# The program


def workers_of(running: Running) -> list[int]:
    return children_of(running.process.pid)


def connect(running: Running, stack: ExitStack) -> httpx.Client:
    return stack.enter_context(client(running.address, headers=BEARER))


def answer_of(http: httpx.Client) -> int:
    return http.get("/v1/models").status_code


def test_a_frozen_worker_gets_none(place: Place) -> None:
    """While one of two workers does not move, all new connections are served by the other one."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--workers", "2") as gateway, ExitStack() as stack:
        assert gateway.address
        frozen, _ = workers_of(gateway)
        os.kill(frozen, signal.SIGSTOP)
        stack.callback(os.kill, frozen, signal.SIGCONT)
        assert {answer_of(connect(gateway, stack)) for _ in range(20)} == {200}


def test_workers_without_descriptors_accept_again_when_they_have_some(place: Place) -> None:
    """When no descriptor is left they say so and wait; those who asked meanwhile are served afterwards."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--workers", "2") as gateway, ExitStack() as stack:
        url = httpx.URL(gateway.address)
        before = {}
        for pid in workers_of(gateway):
            least = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()) + 1
            before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, before[pid][1]))
        waiting = [
            stack.enter_context(socket.create_connection((url.host, url.port or 0), PATIENCE)) for _ in range(60)
        ]
        gateway.wait_for("no connection can be accepted", stream="out")
        for pid, limit in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        for connection in waiting:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert gateway.end() == 0


def test_the_one_that_takes_a_dead_workers_place_takes_its_share(place: Place) -> None:
    """After the death of a worker the new one gets new connections until it has as many as the others."""
    place.configure(WITH_KEY)
    with place.start("serve", "--port", "0", "--workers", "2") as gateway, ExitStack() as stack:
        assert {answer_of(connect(gateway, stack)) for _ in range(10)} == {200}
        killed, other = workers_of(gateway)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(set(workers_of(gateway)) - {killed, other}) == 1)
        (new,) = set(workers_of(gateway)) - {killed, other}
        until(
            lambda: (
                answer_of(connect(gateway, stack)) == 200 and connections(gateway, new) >= connections(gateway, other)
            )
        )


def connections(running: Running, pid: int) -> int:
    return connections_of(pid, httpx.URL(running.address).port or 0)
