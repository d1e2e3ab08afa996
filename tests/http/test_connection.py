"""Connections of the data plane: what an upstream may say on them, and when they are used again."""

from __future__ import annotations

import asyncio
import socket
import zlib
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import ProviderBadAnswer, ProviderError, ProviderTimeout
from gatewaykit.http import HttpClient, HttpStream
from gatewaykit.http.connection import Connection

from .servers import OK, serving, until

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "a head": (b"HTTP/1.1 200 OK\r\n", b"X-Field: value\r\n"),
    "one field": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Field: value\r\n"),
    "a chunk's extension": (CHUNKED + b"2\r\nok\r\n5;x=", b"y" * 1000),
}


async def get(client, path="/", **options):
    return await client.request("GET", path, **options)


# what is sent


async def test_the_host_is_named_with_its_port():
    """The Host field has the port that is not the usual one (RFC 9112, 3.2)."""
    async with serving(OK) as server, HttpClient(server.url) as client:
        await get(client)
        assert f"\r\nHost: {server.url.removeprefix('http://')}\r\n" in server.heads[0]


async def test_a_field_of_the_request_replaces_one_of_the_client():
    """Names of fields are the same in any case: none is sent twice."""
    async with serving(OK) as server, HttpClient(server.url, headers={"Authorization": "old"}) as client:
        await get(client, headers={"authorization": "new"})
        assert server.heads[0].lower().count("authorization") == 1
        assert "authorization: new\r\n" in server.heads[0]


async def test_credentials_in_the_address_are_sent():
    """A user and password in the base URL are basic authentication (RFC 7617), and no part of the address."""
    async with serving(OK) as server, HttpClient(server.url.replace("//", "//me:p%40ss@")) as client:
        await get(client)
        assert "Authorization: Basic bWU6cEBzcw==\r\n" in server.heads[0]
        assert "me:" not in server.heads[0]


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "a\r\n\r\nGET /evil HTTP/1.1"])
async def test_nothing_can_be_slipped_into_a_head(text):
    """A field or a path with the end of a line in it is refused before anything is sent."""
    async with serving(OK) as server, HttpClient(server.url) as client:
        with pytest.raises(ProviderError):
            await get(client, headers={"X-Field": text})
        with pytest.raises(ProviderError):
            await get(client, headers={text: "x"})
        with pytest.raises(ProviderError):
            await get(client, f"/{text}".replace(" ", ""))
        assert server.heads == []


async def test_a_path_with_other_letters():
    """A path is sent as a URL has to be written (RFC 3986, 2.1)."""
    async with serving(OK) as server, HttpClient(server.url) as client:
        await get(client, "/models/мой model?x=1")
        assert server.heads[0].startswith("GET /models/%D0%BC%D0%BE%D0%B9%20model?x=1 HTTP/1.1\r\n")


# what comes back


async def test_interim_answers_are_passed_over():
    """Early hints before an answer are not the answer, nor is what they say."""
    hints = b"HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\n\r\n"
    async with serving(hints + hints + OK) as server, HttpClient(server.url) as client:
        for _ in range(2):
            answer = await get(client)
            assert (answer.status, answer.body) == (200, b"ok")
            assert "x-hint" not in answer.headers
        assert server.opened == 1


async def test_another_protocol_is_refused():
    """An upstream that wants to speak something else is not followed."""
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nanything"
    async with serving(switching) as server, HttpClient(server.url) as client:
        with pytest.raises(ProviderBadAnswer):
            await get(client)
        await until(lambda: server.closed == 1)


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(status):
    """These statuses have no body, whatever their head says, and leave the connection to the next request."""
    async with serving(b"HTTP/1.1 %d x\r\n\r\n" % status) as server, HttpClient(server.url) as client:
        for _ in range(3):
            assert (await get(client)).body == b""
        assert server.opened == 1


async def test_an_answer_without_a_length_ends_with_its_connection():
    """Such a body is whole when the upstream closes, and the next request opens another connection."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        for count in (1, 2):
            assert (await get(client)).body == b"all of it"
            assert server.opened == count


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_ends_is_given_up(name):
    """An upstream that goes on and on without bringing the answer further is left, and costs no memory."""
    beginning, more = ENDLESS[name]

    async def script(wire, head):
        await wire.send(beginning)
        while True:
            await wire.send(more * 20)

    async with serving(script) as server, HttpClient(server.url) as client:
        with pytest.raises(ProviderBadAnswer):
            await get(client)
        await until(lambda: server.closed == 1)


@pytest.mark.parametrize(
    ("encoding", "wbits"), [("deflate", zlib.MAX_WBITS), ("deflate", -zlib.MAX_WBITS), ("X-Gzip", 31), ("identity", 0)]
)
async def test_other_encodings(encoding, wbits):
    """Both readings of ``deflate`` are understood, and large bodies come whole."""
    content = bytes(range(256)) * 5000
    packer = zlib.compressobj(wbits=wbits) if wbits else None
    body = packer.compress(content) + packer.flush() if packer else content
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding.encode(), len(body))
    async with serving(head + body) as server, HttpClient(server.url) as client:
        assert (await get(client)).body == content


async def test_unknown_encodings_are_refused():
    """A body that cannot be unpacked is a bad answer."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx"
    async with serving(head) as server, HttpClient(server.url) as client:
        with pytest.raises(ProviderBadAnswer):
            await get(client)


async def test_an_upstream_waits_for_a_slow_reader():
    """A body that nobody reads is not taken from the socket either; read on, it comes whole."""
    size, sent = 64 * 1024 * 1024, 0

    async def script(wire, head):
        nonlocal sent
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await wire.send(b"x" * 65536)
            sent += 65536

    async with serving(script) as server, HttpClient(server.url) as client:
        async with client.stream("GET", "/") as answer:
            await until(lambda: sent > 0)
            before = -1
            while before != sent:
                before = sent
                for _ in range(50):
                    await asyncio.sleep(0)
            assert sent < size / 2
            assert len(await answer.read(size)) == size
        assert server.opened == 1


class Wireless(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self):
        super().__init__()
        self.aborted = False

    def writelines(self, pieces):
        pass

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def get_write_buffer_size(self):
        return 0


def framed(body, framing, sizes):
    """``body`` as an answer, and whether its connection is over at its end."""
    if framing == "length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, False
    if framing == "close":
        return b"HTTP/1.1 200 OK\r\n\r\n" + body, True
    chunks, start = b"", 0
    for size in sizes:
        if piece := body[start : start + size]:
            chunks += b"%x\r\n%b\r\n" % (len(piece), piece)
        start += size
    rest = body[start:]
    chunks += b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b""
    return CHUNKED + chunks + b"0\r\nX-Trailer: t\r\n\r\n", False


@given(
    st.binary(max_size=300),
    st.sampled_from(["length", "chunks", "close"]),
    st.lists(st.integers(1, 50), max_size=6),
    st.lists(st.integers(1, 200), max_size=12),
)
def test_the_pieces_of_an_answer_do_not_matter(body, framing, sizes, cuts):
    """Two answers, one after the other, are read the same in whatever pieces the network brings them."""

    async def main():
        connection, transport = Connection(asyncio.get_running_loop()), Wireless()
        connection.connection_made(transport)
        for _ in range(1 if framing == "close" else 2):
            asking = asyncio.create_task(connection.send(b"GET / HTTP/1.1\r\n\r\n", b""))
            await asyncio.sleep(0)
            content, ends = framed(body, framing, sizes)
            for cut in [*cuts, len(content)]:
                if piece := content[:cut]:
                    connection.data_received(piece)
                content = content[cut:]
            if ends:
                connection.connection_lost(None)
            answer = HttpStream(await asking)
            assert (answer.status, await answer.read()) == (200, body)
            assert connection.may_serve_again is not ends
            connection.release()

    asyncio.run(main())


# which are used again


@pytest.mark.parametrize("later", [False, True])
async def test_what_nobody_asked_for_is_no_answer(later):
    """Bytes behind an answer end the connection: they are never taken for the answer to the next request."""
    first = asyncio.Event()

    async def script(wire, head):
        await wire.send(OK if later else OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        if later:
            await first.wait()
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            await wire.gone()
            return "close"
        return None

    async with serving(script) as server, HttpClient(server.url) as client:
        assert (await get(client)).body == b"ok"
        first.set()
        await until(lambda: server.closed == 1)
        assert (await get(client)).body == b"ok"
        assert server.opened == 2


async def test_connections_that_the_upstream_closed_are_not_used():
    """A kept connection that is closed meanwhile costs nothing but another one."""

    async def script(wire, head):
        await wire.send(OK)
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        for count in range(1, 4):
            assert (await get(client)).body == b"ok"
            await until(lambda count=count: server.closed == count)
            await asyncio.sleep(0.01)


async def test_an_answer_before_all_of_the_request_is_sent():
    """An upstream that answers a large request early is heard, and what was not sent yet disturbs no later request."""

    left = 0

    async def answer_early(reader, writer):
        nonlocal left
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        left += 1

    listener = await asyncio.start_server(answer_early, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, HttpClient(f"http://127.0.0.1:{port}") as client:
        for _ in range(2):
            assert (await client.request("POST", "/", body=b"x" * 30_000_000)).status == 413
        await until(lambda: left == 2)


async def test_connections_grow_old(monkeypatch):
    """A connection that nobody uses for long is closed by the client."""
    monkeypatch.setattr("gatewaykit.http.pool.KEPT_SECONDS", 0.05)
    async with serving(OK) as server, HttpClient(server.url) as client:
        await asyncio.gather(get(client), get(client))
        await until(lambda: server.closed == server.opened > 0)
        assert (await get(client)).status == 200


async def test_waiting_for_a_turn_is_bounded():
    """Where all connections are taken, a request waits no longer than the time to connect."""

    async def script(wire, head):
        await wire.send(CHUNKED)
        await wire.gone()
        return "close"

    async with serving(script) as server, HttpClient(server.url, max_connections=1, connect_timeout=0.05) as client:
        async with client.stream("GET", "/"):
            with pytest.raises(ProviderTimeout):
                await get(client)
        async with client.stream("GET", "/") as answer:
            assert answer.status == 200


# addresses


async def test_the_next_address_is_tried():
    """Of several addresses of a name, one without a listener does not matter."""
    async with serving(OK) as server, HttpClient(server.url.replace("127.0.0.1", "two.example")) as client:
        port = int(server.url.rpartition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.86.75.30", "127.0.0.1")]
        with mock.patch("socket.getaddrinfo", return_value=found):
            assert (await get(client)).status == 200


async def test_look_ups_are_shared():
    """Requests that begin together ask once for the address, and the answer serves those that come soon after."""
    async with serving(OK) as server, HttpClient(server.url.replace("127.0.0.1", "one.example")) as client:
        port = int(server.url.rpartition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        with mock.patch("socket.getaddrinfo", return_value=found) as asked:
            await asyncio.gather(*(get(client) for _ in range(10)))
            await asyncio.gather(*(get(client) for _ in range(20)))
        assert server.opened >= 10
        assert asked.call_count == 1


async def test_ipv6():
    """An address of version 6 is asked, and named in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serving(OK, "::1") as server, HttpClient(server.url) as client:
        assert (await get(client)).status == 200
        assert f"\r\nHost: {server.url.removeprefix('http://')}\r\n" in server.heads[0]
