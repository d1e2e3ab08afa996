"""Downloads from addresses that clients give."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, settings

from gatewaykit.addresses import Address
from gatewaykit.errors import BadRequest
from gatewaykit_gigachat.fetch_options import FetchOptions
from gatewaykit_gigachat.safe_fetch import SafeFetcher

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LIMIT = 10_000
UNREACHABLE = "The file could not be fetched from its address."


class Names:
    """A name server with prepared answers, one after another; the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self._answers.get(host)
        if not found:
            raise OSError("unknown host")
        return found.pop(0) if len(found) > 1 else found[0]


def only(*addresses: str) -> Any:
    """Allows these addresses alone: they play the public ones."""
    return lambda address: str(address) in addresses


def fetcher(port: int, names: Any = None, **options: Any) -> SafeFetcher:
    options.setdefault("allow", only("127.0.0.1"))
    resolve = names or Names(files_example=[["127.0.0.1"]])
    return SafeFetcher(FetchOptions(ports=frozenset({port}), resolve=resolve, **options))


async def refusal(fetching: SafeFetcher, url: str) -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        await fetching.fetch(url, limit=LIMIT, param="messages[0].content[1]")
    assert refused.value.param == "messages[0].content[1]"
    return refused.value


# which addresses


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433", "127.1", "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]", "0.0.0.0", "169.254.169.254", "[::]",
    ],
)  # fmt: skip
async def test_inner_hosts_are_refused_by_default(host: Any, name: str) -> None:
    """Without an exception nothing inside is connected to, however its address is written."""
    host.serve("/", b"secret")
    error = await refusal(SafeFetcher(FetchOptions(ports=frozenset({host.port}))), f"http://{name}:{host.port}/")
    assert error.message == UNREACHABLE
    assert host.connections == 0


async def test_a_host_with_one_inner_address_is_refused(host: Any) -> None:
    """One forbidden address among allowed ones is enough."""
    names = Names(files_example=[["127.0.0.1", "10.0.0.1"]])
    await refusal(fetcher(host.port, names), f"http://files.example:{host.port}/")
    assert host.connections == 0


async def test_failures_tell_nothing_of_the_inside(host: Any) -> None:
    """Missing, forbidden, silent and broken hosts all get the same words."""
    names = Names(inner_example=[["10.0.0.1"]], files_example=[["127.0.0.1"]], none_example=[[]], odd_example=[["x"]])

    async def slam(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    host.routes["/slam"] = slam
    fetching = fetcher(host.port, names)
    urls = ["missing.example", "inner.example", "none.example", "odd.example", "files.example"]
    told = {(await refusal(fetching, f"http://{name}:{host.port}/slam")).message for name in urls}
    assert told == {UNREACHABLE}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://files.example/x", "file:///etc/passwd", "gopher://files.example/", "http://", "http:///x",
        "//files.example/", "http://0177.0.0.1/", "http://user:secret@files.example/", "http://user@files.example/",
        "http://files.example:99999/", "http://[::1",
        "http://files.example/" + "x" * 9000, "http://files.example\x00/", "http://files.example:0/",
        "javascript:alert(1)", "",
    ],
)  # fmt: skip
async def test_odd_addresses_are_refused(url: str) -> None:
    """Only plain http(s) addresses are looked at."""
    names = Names(files_example=[["127.0.0.1"]])
    error = await refusal(fetcher(80, names), url)
    assert "secret" not in str(error)
    assert names.asked == []


async def test_only_the_usual_ports(host: Any) -> None:
    """Other ports than 80 and 443 are closed unless they are allowed."""
    fetching = SafeFetcher(FetchOptions(resolve=Names(files_example=[["127.0.0.1"]]), allow=only("127.0.0.1")))
    await refusal(fetching, f"http://files.example:{host.port}/")
    assert host.connections == 0


# what is sent and taken


async def test_a_file_is_fetched(host: Any) -> None:
    """The host gets its own name and nothing that tells of others; the client gets the bytes and their type."""
    host.serve("/cat.png?x=1", b"cat", Content_Type="Image/PNG; q=1", Set_Cookie="spy=1")
    fetching = fetcher(host.port)
    for _ in range(2):
        found = await fetching.fetch(f"http://files.example:{host.port}/cat.png?x=1#part", limit=LIMIT)
        assert (found.data, found.content_type) == (b"cat", "image/png")
    for _, headers in host.requests:
        assert headers["host"] == f"files.example:{host.port}"
        assert headers["accept-encoding"] == "identity"
        assert headers.keys().isdisjoint({"cookie", "authorization", "referer"})


async def test_the_next_address_is_tried(host: Any) -> None:
    """A host that is down at one of its addresses is reached at the next."""
    host.serve("/", b"here")
    names = Names(files_example=[["127.0.0.2", "127.0.0.1"]])
    fetching = fetcher(host.port, names, allow=only("127.0.0.1", "127.0.0.2"))
    assert (await fetching.fetch(f"http://files.example:{host.port}/", limit=LIMIT)).data == b"here"


async def test_a_second_answer_of_the_name_server_cannot_win(host: Any, start_host: Any) -> None:
    """The name is asked for once, and the connection goes to the address that was checked (DNS rebinding)."""
    inner = await start_host("127.0.0.2", host.port)
    host.serve("/", b"public")
    inner.serve("/", b"secret")
    names = Names(files_example=[["127.0.0.1"], ["127.0.0.2"]])
    found = await fetcher(host.port, names).fetch(f"http://files.example:{host.port}/", limit=LIMIT)
    assert found.data == b"public"
    assert names.asked == ["files.example"]
    assert inner.connections == 0


# redirects


async def test_redirects_are_followed(host: Any) -> None:
    """Three redirects are followed, relative ones too; a fourth is one too many. No cookie goes along."""
    for number in range(1, 5):
        host.serve(f"/{number}", status="302 Found", Location=str(number - 1), Set_Cookie="spy=1; Path=/")
    host.serve("/0", b"here")
    fetching = fetcher(host.port)
    assert (await fetching.fetch(f"http://files.example:{host.port}/3", limit=LIMIT)).data == b"here"
    assert "too often" in (await refusal(fetching, f"http://files.example:{host.port}/4")).message
    assert all("cookie" not in headers for _, headers in host.requests)


@pytest.mark.parametrize(
    "location",
    [
        "http://inner.example:{port}/",
        "http://127.0.0.2:{port}/",
        "ftp://files.example/",
        "file:///etc/passwd",
        "http://[",
        "",
    ],
)
async def test_redirects_to_the_inside_are_refused(host: Any, start_host: Any, location: str) -> None:
    """Each redirect is checked like the first address."""
    inner = await start_host("127.0.0.2", host.port)
    inner.serve("/", b"secret")
    host.serve("/", status="302 Found", Location=location.format(port=host.port))
    names = Names(
        files_example=[["127.0.0.1"]],
        inner_example=[["127.0.0.2"]],
        **{"127_0_0_2": [["127.0.0.2"]]},
    )
    await refusal(fetcher(host.port, names), f"http://files.example:{host.port}/")
    assert inner.connections == 0


async def test_a_name_is_checked_again_on_a_redirect(host: Any, start_host: Any) -> None:
    """A host that redirects to itself and changes its address meanwhile is refused."""
    inner = await start_host("127.0.0.2", host.port)
    host.serve("/", status="307 Temporary Redirect", Location="/again")
    names = Names(files_example=[["127.0.0.1"], ["127.0.0.2"]])
    await refusal(fetcher(host.port, names), f"http://files.example:{host.port}/")
    assert inner.connections == 0


# limits


async def test_a_declared_size_is_believed_before_reading(host: Any) -> None:
    """A body that says it is too large is not read."""
    host.serve("/", b"x" * (LIMIT + 1))
    assert "larger" in (await refusal(fetcher(host.port), f"http://files.example:{host.port}/")).message
    host.serve("/", b"x" * LIMIT)
    assert len((await fetcher(host.port).fetch(f"http://files.example:{host.port}/", limit=LIMIT)).data) == LIMIT


async def test_an_endless_body_is_cut(host: Any) -> None:
    """A body that never ends is left as soon as it is too large, and the connection is closed."""

    async def pour(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    host.routes["/"] = pour
    assert "larger" in (await refusal(fetcher(host.port), f"http://files.example:{host.port}/")).message
    async with asyncio.timeout(10):
        await host.closed.wait()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"], ids=["head", "body"])
async def test_a_slow_trickle_is_cut(host: Any, head: bytes) -> None:
    """A server that always sends a little more, in the head or the body, is left when the time is over."""

    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(head or b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    host.routes["/"] = trickle
    error = await refusal(fetcher(host.port, timeout=0.3), f"http://files.example:{host.port}/")
    assert "in time" in error.message
    async with asyncio.timeout(10):
        await host.closed.wait()


async def test_a_silent_name_server_is_cut() -> None:
    """The time for a download includes the name server's."""

    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    assert "in time" in (await refusal(fetcher(80, silent, timeout=0.1), "http://files.example/")).message


@pytest.mark.parametrize(
    ("status", "words"), [("404 Not Found", "404"), ("206 Partial Content", "206"), ("500 Oops", "500")]
)
async def test_only_whole_answers_count(host: Any, status: str, words: str) -> None:
    """Any status but 200 is told to the client."""
    host.serve("/", b"page", status=status)
    assert words in (await refusal(fetcher(host.port), f"http://files.example:{host.port}/")).message


async def test_a_compressed_body_is_refused(host: Any) -> None:
    """A body whose size would only be known after unpacking is not taken."""
    host.serve("/", b"\x1f\x8b", Content_Encoding="gzip")
    await refusal(fetcher(host.port), f"http://files.example:{host.port}/")


# TLS


@pytest.mark.parametrize(("certified", "trusted"), [("files.example", True), ("other.example", False)])
async def test_certificates_are_checked_for_the_name(start_host: Any, certified: str, trusted: bool) -> None:
    """The server must show a certificate for the host's name, although the connection goes to an address."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(certified).configure_cert(server)
    authority.configure_trust(client)
    host = await start_host(tls=server)
    host.serve("/", b"sealed")
    fetching, url = fetcher(host.port, ssl_context=client), f"https://files.example:{host.port}/"
    if trusted:
        assert (await fetching.fetch(url, limit=LIMIT)).data == b"sealed"
    else:
        assert (await refusal(fetching, url)).message == UNREACHABLE
        assert host.requests == []


async def test_allowed_is_asked_for_each_address() -> None:
    """The judge of addresses sees every address of a host as an address."""
    seen: list[Address] = []

    def allow(address: Address) -> bool:
        seen.append(address)
        return len(seen) < 2

    names = Names(files_example=[["192.0.2.1", "2001:db8::1"]])
    await refusal(fetcher(80, names, allow=allow), "http://files.example/")
    assert seen == [ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")]
