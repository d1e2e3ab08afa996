"""The HTTP clients against real servers that behave, and servers that do not."""

from __future__ import annotations

import asyncio
import gc
import gzip
import inspect
import ssl
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext, suppress

import httpx
import pytest
import respx
import trustme

from gatewaykit.errors import (
    GatewayError,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
)
from gatewaykit.http import HttpClient, control_client, translated_errors

from .servers import OK, Server, serving, until


async def stream_all(client):
    async with client.stream("GET", "/") as answer:
        return await drained(answer)


async def drained(answer):
    return b"".join([block async for block in answer.frames()])


# what is sent


async def test_request_is_sent_as_given():
    """Path, method, body and headers arrive; the body byte for byte, whatever its size."""
    async with serving(OK) as server, HttpClient(server.url + "/v1/", headers={"X-Key": "k"}) as client:
        for body in (b"", b"x", b"y" * 3_000_000):
            answer = await client.request("POST", "/chat?a=b", body=body, headers={"Content-Type": "application/json"})
            assert (answer.status, answer.body) == (200, b"ok")
        assert server.bodies == [b"", b"x", b"y" * 3_000_000]
        head = server.heads[1].lower()
        assert head.startswith("post /v1/chat?a=b http/1.1\r\n")
        assert "\r\nx-key: k\r\n" in head
        assert "\r\ncontent-type: application/json\r\n" in head
        assert "\r\nuser-agent: gatewaykit\r\n" in head


async def test_large_bodies_raise_no_warning():
    """A body of megabytes is written without the library's warning about it."""
    async with serving(OK) as server, HttpClient(server.url) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.request("POST", "/", body=b"x" * 2_000_000)


async def test_no_cookies_are_kept():
    """A cookie that the server sets does not come back to it."""
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer) as server, HttpClient(server.url) as client:
        await client.request("GET", "/")
        await client.request("GET", "/")
        assert "cookie" not in server.heads[1].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirects_are_followed(status):
    """A redirect is an answer like any other: no request, and so no credential, goes to where it points."""
    async with serving(OK) as other:
        answer = b"HTTP/1.1 %d x\r\nLocation: %b/\r\nContent-Length: 0\r\n\r\n" % (status, other.url.encode())
        async with serving(answer) as server, HttpClient(server.url) as client:
            assert (await client.request("POST", "/", body=b"{}")).status == status
            async with control_client(base_url=server.url) as control:
                assert (await control.get("/")).status_code == status
        assert other.opened == 0


async def test_no_proxy_variables_are_read(monkeypatch):
    """Requests go straight to the server, whatever proxies the environment names."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with serving(OK) as server, HttpClient(server.url) as client:
        assert (await client.request("GET", "/")).status == 200
        async with control_client(base_url=server.url) as control:
            assert (await control.get("/")).status_code == 200


async def test_control_client_sends_its_headers():
    """The control client has the gateway's user agent and the headers given."""
    async with serving(OK) as server, control_client(base_url=server.url, headers={"X-Key": "k"}) as control:
        await control.get("/")
        assert "user-agent: gatewaykit" in server.heads[0].lower()
        assert "x-key: k" in server.heads[0].lower()


# what comes back


async def test_headers_are_lower_case():
    """Header names come in lower case, and of repeated ones the last counts."""
    answer = (
        b"HTTP/1.1 200 OK\r\nX-One: a\r\nx-one: b\r\nContent-Type: Text/Event-Stream; a=b\r\nContent-Length: 0\r\n\r\n"
    )
    async with serving(answer) as server, HttpClient(server.url) as client, client.stream("GET", "/") as got:
        assert got.headers["x-one"] == "b"
        assert got.is_event_stream


@pytest.mark.parametrize("pieces", [1, 3, 1000])
async def test_frames_come_as_they_arrive(pieces):
    """A stream gives its frames whole, in order and unchanged, in whatever pieces the network brings them."""
    stream = b"".join(b"data: %d\r\n\r\n" % number for number in range(100)) + b"data: end"
    size = -(-len(stream) // pieces)

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(stream), size):
            piece = stream[start : start + size]
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.send(b"0\r\n\r\n")

    async with serving(script) as server, HttpClient(server.url) as client, client.stream("GET", "/") as answer:
        assert await drained(answer) == stream.replace(b"\r\n", b"\n") + b"\n\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_lines_come_as_they_arrive(size):
    """Newline-delimited JSON gives its lines whole and in order, in whatever pieces the network brings them."""
    stream = b"\r\n".join(b'{"n":%d}' % number for number in range(40)) + b"\n\n"

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(stream), size):
            piece = stream[start : start + size]
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.send(b"0\r\n\r\n")

    async with serving(script) as server, HttpClient(server.url) as client:
        async with client.stream("GET", "/") as answer:
            assert [line async for line in answer.lines()] == stream.split()
        async with client.stream("GET", "/") as answer:
            assert [line async for line in answer.json_lines(dict)] == [{"n": number} for number in range(40)]


async def test_a_last_line_without_its_end():
    """What stands behind the last line end is a line too; blanks are none."""
    content = b"a\n \nb"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
    async with serving(head + content) as server, HttpClient(server.url) as client, client.stream("GET", "/") as answer:
        assert [line async for line in answer.lines()] == [b"a", b"b"]


async def test_an_endless_line_is_given_up(monkeypatch):
    """A line that grows beyond the limit is a bad answer."""
    monkeypatch.setattr("gatewaykit.http.client.MAX_FRAME_BYTES", 1000)

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 2000)
        await wire.gone()
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client, client.stream("GET", "/") as answer:
        with pytest.raises(ProviderBadAnswer):
            await anext(answer.lines())


@pytest.mark.parametrize(
    ("status", "kind"), [(200, None), (307, ProviderBadAnswer), (429, ProviderBusy), (503, ProviderUnavailable)]
)
async def test_raise_for_status(status, kind):
    """A status other than 200 raises what it means, with the wait that the server asks for."""
    answer = b"HTTP/1.1 %d x\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n" % status
    async with serving(answer) as server, HttpClient(server.url) as client:
        whole = await client.request("GET", "/")
        async with client.stream("GET", "/") as streamed:
            for got in (whole, streamed):
                with pytest.raises(kind) if kind else nullcontext() as caught:
                    got.raise_for_status()
                assert kind is None or caught.value.retry_after == 3


async def test_compressed_answers_are_read():
    """A gzip body arrives as text, both whole and as a stream."""
    content = gzip.compress(b"data: x\n\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content)
    async with serving(head + content) as server, HttpClient(server.url) as client:
        assert (await client.request("GET", "/")).body == b"data: x\n\n"
        async with client.stream("GET", "/") as answer:
            assert await drained(answer) == b"data: x\n\n"


async def test_a_small_answer_that_grows_is_bounded():
    """A few kilobytes that unpack to many megabytes are given up at the limit, not held in memory."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with serving(head + bomb) as server, HttpClient(server.url) as client, client.stream("GET", "/") as answer:
        with pytest.raises(ProviderBadAnswer):
            await answer.read(1_000_000)


@pytest.mark.parametrize("framing", [b"Content-Length: 3000\r\n\r\n", b"Connection: close\r\n\r\n"])
async def test_a_body_beyond_the_limit(framing):
    """A body that is larger than the caller wants is refused, by its announcement or on the way."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\n" + framing + b"x" * 3000)
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client, client.stream("GET", "/") as answer:
        with pytest.raises(ProviderBadAnswer):
            await answer.read(1000)


# failures


async def test_refused(unused_tcp_port):
    """A port without a listener is an unavailable provider."""
    async with HttpClient(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(ProviderUnavailable):
            await client.request("GET", "/")
    async with control_client() as control:
        with pytest.raises(ProviderUnavailable), translated_errors():
            await control.get(f"http://127.0.0.1:{unused_tcp_port}/")


async def test_unknown_host():
    """A name that does not resolve is an unavailable provider, and the error does not say the name."""
    async with HttpClient("http://nowhere.invalid") as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await client.request("GET", "/")
    assert "nowhere" not in str(caught.value)


async def test_connect_timeout():
    """A server that accepts and never answers the TLS hello costs no more than the connect timeout."""
    async with serving(OK) as server, HttpClient(server.url.replace("http:", "https:"), connect_timeout=0.05) as client:
        with pytest.raises(ProviderTimeout):
            await client.request("GET", "/")


async def test_control_timeout():
    """A server that does not answer in time is a timeout of the control client."""

    async def script(wire, head):
        await wire.gone()
        return "close"

    async with serving(script) as server, control_client(base_url=server.url, timeout=0.05) as control:
        with pytest.raises(ProviderTimeout), translated_errors():
            await control.get("/")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server_context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_own_authority_is_trusted(authority, server_context):
    """A certificate of an authority in the given context is accepted, by both clients."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with serving(OK, ssl=server_context) as server:
        async with HttpClient(server.url, ssl_context=context) as client:
            assert (await client.request("GET", "/")).status == 200
        async with control_client(base_url=server.url, ssl_context=context) as control:
            assert (await control.get("/")).status_code == 200


async def test_unknown_authority_is_refused(server_context):
    """A certificate that nobody vouches for is refused, and the log learns that it was TLS."""
    async with serving(OK, ssl=server_context) as server:
        async with HttpClient(server.url) as client:
            with pytest.raises(ProviderUnavailable, match="certificate") as caught:
                await client.request("GET", "/")
        assert "localhost" not in str(caught.value)
        async with control_client(base_url=server.url) as control:
            with pytest.raises(ProviderUnavailable, match="certificate"), translated_errors():
                await control.get("/")
        assert server.heads == []


async def test_wrong_name_is_refused(authority, server_context):
    """A certificate for another name than the address is refused."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with serving(OK, ssl=server_context) as server:
        url = server.url.replace("localhost", "127.0.0.1")
        client = HttpClient(url, ssl_context=context)
        with pytest.raises(ProviderUnavailable, match="certificate"):
            await client.request("GET", "/")
        await client.aclose()


async def test_plain_text_where_encryption_is_expected():
    """A server that does not speak TLS at all is unavailable."""
    answered = asyncio.Event()

    async def plain(reader, writer):
        await reader.read(10)
        writer.write(OK)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        answered.set()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with listener, HttpClient(f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(ProviderUnavailable, match="TLS"):
            await client.request("GET", "/")
        await answered.wait()


BROKEN = {
    "nothing": (b"", ProviderUnavailable),
    "half a head": (b"HTTP/1.1 200 OK\r\nConte", ProviderUnavailable),
    "fewer bytes than announced": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", ProviderUnavailable),
    "half a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", ProviderUnavailable),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", ProviderUnavailable),
    "no such chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n", GatewayError),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", ProviderBadAnswer),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", ProviderBadAnswer),
    "huge header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", ProviderBadAnswer),
    "no gzip": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        ProviderBadAnswer,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("streamed", [False, True])
async def test_broken_answers(name, streamed):
    """An answer that is cut, or no HTTP, is a typed error, whole or streamed, and its connection is not kept."""
    content, kind = BROKEN[name]

    async def script(wire, head):
        await wire.send(content)
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        with pytest.raises(kind):
            await (stream_all(client) if streamed else client.request("GET", "/"))
        await until(lambda: server.closed == server.opened)


async def test_mid_stream_death_gives_what_came_first():
    """A connection that dies in mid-stream gives the whole frames before it, then says that it broke off."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\ndata: 1\n\ndata: 2\r\n")
        wire.writer.transport.abort()

    async with serving(script) as server, HttpClient(server.url) as client, client.stream("GET", "/") as answer:
        blocks = answer.frames()
        assert await anext(blocks) == b"data: 1\n\n"
        with pytest.raises(ProviderUnavailable, match="broke off"):
            await anext(blocks)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
async def test_broken_framing_in_mid_stream(streamed, at_once):
    """A body whose framing breaks behind its beginning is not waited for, whole or streamed, and nothing is kept."""
    begun = asyncio.Event()

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        if not at_once:
            await begun.wait()
        await wire.send(b"zz\r\nnonsense\r\n")
        await wire.gone()

    async def read(client):
        async with client.stream("GET", "/") as answer:
            begun.set()
            await (drained(answer) if streamed else answer.read())

    async with asyncio.timeout(5), serving(script) as server, HttpClient(server.url) as client:
        with pytest.raises(ProviderError):
            await read(client)
        await until(lambda: server.closed == server.opened)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://[::1"])
async def test_impossible_addresses(url):
    """An address that cannot be asked is an error of ours, not a crash."""
    async with HttpClient(url) as client:
        with pytest.raises(ProviderError):
            await client.request("GET", "/")


async def test_cancelled_requests_stay_cancelled():
    """Cancellation passes through untranslated and closes the connection."""
    waiting = asyncio.Event()

    async def script(wire, head):
        waiting.set()
        await wire.gone()
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        task = asyncio.create_task(client.request("GET", "/"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.closed == 1)


# connections


async def test_connection_is_used_again_after_a_whole_answer():
    """Answers that were read to their end leave the connection for the next request."""
    async with serving(OK) as server, HttpClient(server.url) as client:
        for _ in range(5):
            await client.request("GET", "/")
            async with client.stream("GET", "/") as answer:
                await answer.read()
        assert server.opened == 1


async def test_connection_is_closed_after_a_partial_answer():
    """An answer that is left early costs its connection, at once, and the next request opens a new one."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await wire.gone()
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        for count in (1, 2):
            async with client.stream("GET", "/") as answer:
                assert await anext(answer.frames()) == b"data: 1\n\n"
            await until(lambda count=count: server.closed == count)
        assert server.opened == 2


async def test_connection_is_closed_after_an_error_of_the_reader():
    """When the code that reads an answer fails, its error passes unchanged and the connection is closed."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await wire.gone()
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        with pytest.raises(ValueError, match="mine"):
            async with client.stream("GET", "/"):
                raise ValueError("mine")
        await until(lambda: server.closed == 1)


async def test_finish_saves_the_connection():
    """A body whose end comes a moment after its last frame is waited for, and the connection is used again."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        await asyncio.sleep(0.01)
        await wire.send(b"0\r\n\r\n")

    async with serving(script) as server, HttpClient(server.url) as client:
        for _ in range(3):
            async with client.stream("GET", "/") as answer:
                await anext(answer.frames())
                await answer.finish(5)
        assert server.opened == 1


async def test_finish_gives_up():
    """A body that never ends, and one that breaks, do not hold anybody up and raise nothing."""

    async def script(wire, head):
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        if "break" in head:
            wire.writer.transport.abort()
        await wire.gone()
        return "close"

    async with serving(script) as server, HttpClient(server.url) as client:
        for path in ("/", "/break"):
            async with client.stream("GET", path) as answer:
                await anext(answer.frames())
                await answer.finish(0.05)
        await until(lambda: server.closed == 2)


async def test_limit_of_connections():
    """``max_connections`` bounds what is open at a time; more requests wait for their turn."""
    async with serving(OK) as server, HttpClient(server.url, max_connections=2) as client:
        await asyncio.gather(*(client.request("GET", "/") for _ in range(20)))
        assert server.opened <= 2
        assert len(server.heads) == 20


async def test_close_leaves_nothing():
    """After ``aclose`` no connection, task or warning is left, and the client may be used again."""
    async with serving(OK) as server:
        client = HttpClient(server.url)
        for count in (1, 2):
            await client.request("GET", "/")
            await client.aclose()
            await until(lambda count=count: server.opened == server.closed == count)
        del client
        gc.collect()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def test_two_event_loops():
    """One client serves two event loops at the same time, each with connections of its own."""
    started = threading.Event()
    ready: list[Server] = []
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def serve():
        async def main():
            async with serving(OK) as server:
                ready.append(server)
                stop.append((asyncio.get_running_loop(), asyncio.Event()))
                started.set()
                await stop[0][1].wait()

        asyncio.run(main())

    server_thread = threading.Thread(target=serve)
    server_thread.start()
    assert started.wait(5)
    client = HttpClient(ready[0].url)
    together = threading.Barrier(2, timeout=5)
    statuses = []

    def use():
        async def main():
            statuses.append((await client.request("GET", "/")).status)
            await asyncio.to_thread(together.wait)
            statuses.append((await client.request("GET", "/")).status)
            await client.aclose()

        asyncio.run(main())

    users = [threading.Thread(target=use) for _ in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join(10)
    loop, event = stop[0]
    loop.call_soon_threadsafe(event.set)
    server_thread.join(5)
    assert statuses == [200] * 4
    assert ready[0].opened == 2


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_ended_loops_are_forgotten():
    """A loop that ended without closing the client leaves no session behind once another loop uses it."""

    async def use(client):
        with suppress(ProviderUnavailable):
            await client.request("GET", "/")

    async def use_again(client):
        await use(client)
        assert list(client._pools) == [asyncio.get_running_loop()]
        await client.aclose()
        assert client._pools == {}

    client = HttpClient("http://127.0.0.1:1")
    asyncio.run(use(client))
    asyncio.run(use_again(client))


# translation of exceptions


def subclasses(kind):
    return {kind} | {below for child in kind.__subclasses__() for below in subclasses(child)}


def made(kind):
    """An exception of this class, without its constructor's help."""
    return kind.__new__(kind)


HTTPX = sorted(
    (kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, Exception)),
    key=lambda kind: kind.__name__,
)
MISUSE = (httpx.StreamError, httpx.CookieConflict)


@pytest.mark.parametrize("kind", HTTPX, ids=lambda kind: kind.__name__)
@respx.mock
async def test_every_httpx_exception_is_translated(kind):
    """Every exception class of httpx becomes a provider error; misuse of it stays a defect."""
    respx.get("http://there.example/").mock(side_effect=made(kind))
    expected = kind if issubclass(kind, MISUSE) else ProviderError
    with pytest.raises(expected), translated_errors():
        async with control_client() as client:
            await client.get("http://there.example/")


def test_a_model_call_needs_no_second_library():
    """A gateway that serves never imports httpx: it would be a tenth of its start, and stay in its memory."""
    imports = "import sys; import gatewaykit.serving.server, gatewaykit_gigachat.provider"
    subprocess.run([sys.executable, "-c", f"{imports}; assert 'httpx' not in sys.modules"], check=True)


@pytest.mark.parametrize(
    ("kind", "translated"),
    [
        (TimeoutError, ProviderTimeout),
        (httpx.ConnectTimeout, ProviderTimeout),
        (httpx.PoolTimeout, ProviderTimeout),
        (httpx.RemoteProtocolError, ProviderUnavailable),
        (ConnectionResetError, ProviderUnavailable),
        (ssl.SSLCertVerificationError, ProviderUnavailable),
        (httpx.DecodingError, ProviderBadAnswer),
        (httpx.TooManyRedirects, ProviderBadAnswer),
        (httpx.UnsupportedProtocol, ProviderError),
        (ValueError, ProviderBadAnswer),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_most_specific_kind_wins(kind, translated):
    """Each kind of failure has its own error: slow, down, garbled, or impossible."""
    with pytest.raises(ProviderError) as caught, translated_errors():
        raise made(kind)
    assert type(caught.value) is translated


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), ProviderBadAnswer("x"), asyncio.CancelledError()])
def test_other_exceptions_stay(error):
    """Defects, errors of the gateway's own tree and cancellation are not touched."""
    with pytest.raises(type(error)) as caught, translated_errors():
        raise error
    assert caught.value is error


def test_addresses_do_not_show():
    """Neither the client's text nor a translated error says where the upstream is beyond the configured address."""
    secret = "http://10.1.2.3:99/secret"
    with pytest.raises(ProviderError) as caught, translated_errors():
        raise httpx.InvalidURL(secret)
    assert "10.1.2.3" not in str(caught.value)
    assert "hunter2" not in repr(HttpClient("http://h", headers={"Authorization": "hunter2"}))
