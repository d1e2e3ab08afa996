"""``server.max_header_bytes``: bytes on a socket against a gateway with a small limit."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from .conftest import PATIENCE, Place


@pytest.fixture
def small_heads(place: Place) -> Iterator[socket.socket]:
    """A connection to a gateway that takes request heads of at most 2000 bytes."""
    place.configure("[server]\nmax_header_bytes = 2000\n")
    with place.start("serve", "--port", "0") as gateway:
        url = httpx.URL(gateway.address)
        with socket.create_connection((url.host, url.port or 0), timeout=PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection
        assert gateway.end() == 0
        assert "exception" not in gateway.out


def status(connection: socket.socket) -> int:
    """The status of the next answer, which has a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    if found := re.search(rb"(?i)content-length: (\d+)", head):
        while len(body) < int(found[1]):
            body += connection.recv(65536)
    return int(head.split()[1])


def test_a_long_head_is_refused(small_heads: socket.socket) -> None:
    """More bytes of headers than allowed: 431, and the connection is closed."""
    small_heads.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\nx-long: " + b"x" * 2000 + b"\r\n\r\n")
    assert status(small_heads) == 431
    assert small_heads.recv(1) == b""


def test_a_head_without_end_is_refused(small_heads: socket.socket) -> None:
    """A client that never ends its headers is refused while it sends."""
    small_heads.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(10_000):
            small_heads.sendall(b"x-more: " + b"y" * 500 + b"\r\n")
    with contextlib.suppress(ConnectionError):
        assert status(small_heads) == 431


def test_large_bodies_are_not_heads(small_heads: socket.socket) -> None:
    """Bytes of a body do not count, however the packets are cut; the connection stays for the next request."""
    body = b"z" * 100_000
    head = b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r" % len(body)
    for _ in range(3):
        small_heads.sendall(head)
        small_heads.sendall(b"\n" + body)
        assert status(small_heads) == 404
    small_heads.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
    assert status(small_heads) == 200
