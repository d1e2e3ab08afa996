"""Bytes on a real socket that no HTTP library would send: the server says what is wrong once, and lives on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from gatewaykit import Call, Limiter, Permit, Usage
from gatewaykit.testing import KEY, FakeProvider, make_gateway, plugin_of, serve

LIMIT = 4096
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
LENGTH = f"content-length: {len(BODY)}\r\n\r\n".encode()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, int]]:
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider()]), server={"max_header_bytes": LIMIT, "max_body_bytes": 2**20}
    )
    async with serve(gateway) as url:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK"), "the server did not live on"
        writer.close()


async def converse(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Send the pieces until an answer comes, and read until the server closes."""
    reader, writer = await asyncio.open_connection(*address)
    came = bytearray()

    async def listen() -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                came.extend(data)

    listening = asyncio.create_task(listen())
    try:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if listening.done() or (came and len(pieces) > 50):
                    break
                writer.write(piece)
                await writer.drain()
                for _ in range(4):  # the server, in this event loop too, reads before there is more
                    await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await listening
    finally:
        listening.cancel()
        writer.close()
    return bytes(came)


def only_answer(data: bytes) -> bytes:
    """The status line of the one answer in ``data``."""
    assert data.count(b"HTTP/1.1 ") == 1, data
    return data.partition(b"\r\n")[0]


TOO_LARGE = {
    "one long header": (HEAD + b"x-long: " + b"a" * LIMIT + b"\r\n" + LENGTH + BODY,),
    "many headers": (HEAD + b"x-many: a\r\n" * 600 + LENGTH + BODY,),
    "a long path": (b"GET /" + b"a" * LIMIT + b" HTTP/1.1\r\nhost: x\r\n\r\n",),
    "a header that never ends": (HEAD + b"x-endless: ", *[b"a" * 1000] * 400),
    "headers that never end": (HEAD, *[b"x-endless: " + b"a" * 1000 + b"\r\n"] * 400),
    "a path that never ends": (b"GET /", *[b"a" * 1000] * 400),
}


@pytest.mark.parametrize("pieces", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_a_huge_head_is_answered_with_431(pieces: tuple[bytes, ...]) -> None:
    """Once, and the connection is closed, before more than a little of it has been kept."""
    async with served() as address:
        assert only_answer(await converse(address, *pieces)).startswith(b"HTTP/1.1 431 ")


async def test_a_head_just_below_the_limit_is_served() -> None:
    """The limit is for heads alone: a body of any allowed size may follow in the same packets."""
    large = BODY[:-1] + b" " * 500_000 + b"}"
    head = HEAD + b"x-long: " + b"a" * (LIMIT - 400) + b"\r\nconnection: close\r\n"
    async with served() as address:
        answer = await converse(address, head + f"content-length: {len(large)}\r\n\r\n".encode() + large)
    assert only_answer(answer) == b"HTTP/1.1 200 OK"


async def test_every_request_of_a_connection_has_the_whole_limit() -> None:
    """Heads and bodies of earlier requests do not count, sent one after another or all at once."""
    one = HEAD + b"x-long: " + b"a" * (LIMIT // 2) + b"\r\n" + LENGTH + BODY
    last = HEAD + b"connection: close\r\n" + LENGTH + BODY
    async with served() as address:
        for pieces in ([*[one] * 10, last], [one * 10 + last]):
            answer = await converse(address, *pieces)
            assert answer.count(b"HTTP/1.1 200 OK") == 11


async def test_a_head_may_come_byte_by_byte() -> None:
    """Slow clients are clients."""
    request = HEAD + b"connection: close\r\n" + LENGTH + BODY
    async with served() as address:
        answer = await converse(address, *(bytes([byte]) for byte in request))
    assert only_answer(answer) == b"HTTP/1.1 200 OK"


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
ENDLESS = {
    "trailers": (CHUNKED + b"1\r\n{\r\n0\r\n", *[b"x-trailer: " + b"a" * 1000 + b"\r\n"] * 400),
    "one trailer": (CHUNKED + b"1\r\n{\r\n0\r\nx-trailer: ", *[b"a" * 1000] * 400),
    "an extension of a chunk": (CHUNKED + b"1;", *[b"a" * 1000] * 400),
}


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_surrounds_a_body_cannot_grow_without_end(pieces: tuple[bytes, ...]) -> None:
    """Neither trailers nor the extensions of chunks are a way around the limits: the connection is closed."""
    async with served() as address:
        answer = await converse(address, *pieces)
    assert b" 200 " not in answer.partition(b"\r\n")[0]


GARBAGE = {
    "binary": b"\x00\x01\x02\xff" * 100,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "words": b"hello there\r\n\r\n",
    "a bad header": b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n",
    "two lengths": HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
    "length and chunks": HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
    "a negative length": HEAD + b"content-length: -1\r\n\r\n",
    "a bad chunk": CHUNKED + b"zz\r\n{}",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_refused_and_the_connection_closed(data: bytes) -> None:
    """The parser says no; nothing of it reaches the gateway as a request that was answered."""
    async with served() as address:
        answer = await converse(address, data)
    assert b" 200 " not in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("at", [0, 10, len(HEAD), len(HEAD + LENGTH), len(HEAD + LENGTH) + 5])
async def test_a_connection_that_ends_anywhere_leaves_nothing_behind(at: int) -> None:
    """Closed before, within or between head and body: no task and no connection stays."""
    async with served() as address:
        tasks = asyncio.all_tasks()
        reader, writer = await asyncio.open_connection(*address)
        writer.write((HEAD + LENGTH + BODY)[:at])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while not asyncio.all_tasks() <= tasks:
                await asyncio.sleep(0.002)
        assert await reader.read() == b""


async def test_answers_come_in_order_and_the_last_one_closes() -> None:
    """Requests that come together are answered one by one; whoever wants no more gets none, and is told so."""
    last = b"connection: close\r\n" + LENGTH + BODY
    async with served() as address:
        answers = await converse(address, (HEAD + LENGTH + BODY) * 2 + HEAD + last)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b'"content":"Hello!"') == 3
    assert answers.count(b"\r\nconnection: close\r\n") == 1
    assert answers.rpartition(b"HTTP/1.1 ")[2].count(b"\r\nconnection: close\r\n") == 1


async def test_an_older_client_gets_its_answer_and_the_end() -> None:
    """HTTP/1.0 knows of no connection that lives on (RFC 9112, 9.3)."""
    async with served() as address:
        answer = await converse(address, HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + LENGTH + BODY)
    assert only_answer(answer) == b"HTTP/1.1 200 OK"
    assert answer.endswith(b"}")


@pytest.mark.parametrize("path", ["/livez", "/nowhere"])
async def test_an_answer_without_its_body_does_not_wait_for_one(path: str) -> None:
    """A head that tells of a body is kept for that body, but not when the request wants none (RFC 9110, 9.3.2)."""
    async with served() as address:
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(2):
            writer.write(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\ncontent-length: " in head
        writer.close()


class Careless(Limiter):
    """Vouches for headers that are not sound."""

    name = "careless"

    async def acquire(self, call: Call) -> Permit | None:
        return CarelessPermit()


class CarelessPermit(Permit):
    headers: Sequence[Any] = ((b"x-told", b"a\r\nset-cookie: b"),)
    instant = True

    async def settle(self, usage: Usage | None) -> None:
        """Nothing was reserved."""

    async def release(self) -> None:
        """Nothing was reserved."""


async def test_no_header_of_a_plugin_begins_another_line() -> None:
    """Whoever makes a header with a line end in it gets an error, and its client no header of somebody's choice."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], limiters=[Careless()]))
    async with serve(gateway) as url:
        parts = urlsplit(url)
        answer = await converse((str(parts.hostname), parts.port or 0), HEAD + LENGTH + BODY)
    assert only_answer(answer) == b"HTTP/1.1 500 Internal Server Error"
    assert b"set-cookie" not in answer
