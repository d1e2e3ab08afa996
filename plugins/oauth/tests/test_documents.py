"""Clients that describe themselves: what is fetched, what is not, and what is believed of it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.errors import Unavailable
from gatewaykit.testing.waiting import until
from gatewaykit_oauth.server import documents
from gatewaykit_oauth.server.documents import Documents, is_safe_id

from .test_assertions import Signer

HOST = "client.example"
SIGNS = {"token_endpoint_auth_method": "private_key_jwt"}


@pytest.fixture(scope="module")
def authority() -> Iterator[trustme.CA]:
    """Who signs the certificate of the test's host."""
    return trustme.CA()


@asynccontextmanager
async def site(authority: trustme.CA, answer: Callable[[str], bytes]) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers as ``answer`` says; yields its port and the requests that it got."""
    seen: list[str] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head)
        writer.write(answer(head.split()[1]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


def reply(document: Any, head: str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n") -> bytes:
    """A whole answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def described(client_id: str, **changed: Any) -> dict[str, Any]:
    """A good document, or one with changes."""
    return {"client_id": client_id, "client_name": "Tool", "redirect_uris": ["http://localhost/callback"], **changed}


def fetcher(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Documents:
    """Documents of a host that is said to be public, and is this machine."""
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == HOST
        return ["127.0.0.1"]

    monkeypatch.setattr(documents, "_public", lambda addresses: addresses[0])
    return Documents(enabled=True, resolve=resolve, context=context)


async def test_a_document_is_a_client(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched once and remembered; the client is public, and asked about as a stranger."""
    where: dict[str, str] = {}
    async with site(authority, lambda path: reply(described(where["id"]))) as (port, seen):
        where["id"] = f"https://{HOST}:{port}/tool.json"
        found = fetcher(authority, monkeypatch)
        for _ in range(2):
            client = await found.client(where["id"])
            assert client is not None
            assert (client.id, client.name, client.origin) == (where["id"], "Tool", "document")
            assert not client.confidential
        assert len(seen) == 1
        assert await Documents(enabled=False).client(where["id"]) is None


async def test_keys_that_are_elsewhere(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that signs may name an address with its keys, which is fetched with the same care."""
    where: dict[str, str] = {}
    keys = Signer().jwks

    def answer(path: str) -> bytes:
        return reply(keys if path == "/keys" else described(where["id"], **SIGNS, jwks_uri=where["keys"]))

    async with site(authority, answer) as (port, seen):
        where["id"], where["keys"] = f"https://{HOST}:{port}/tool.json", f"https://{HOST}:{port}/keys"
        client = await fetcher(authority, monkeypatch).client(where["id"])
        assert client is not None
        assert (client.confidential, client.jwks) == (True, keys)
        assert len(seen) == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda client_id: reply(described("https://client.example/other.json")),
        lambda client_id: reply(described(client_id, token_endpoint_auth_method="client_secret_basic")),
        lambda client_id: reply(described(client_id, client_secret="x")),
        lambda client_id: reply(described(client_id, redirect_uris=["http://evil.example/cb"])),
        lambda client_id: reply(described(client_id, redirect_uris=[])),
        lambda client_id: reply(described(client_id, redirect_uris=[7])),
        lambda client_id: reply([]),
        lambda client_id: reply(b"\xff"),
        lambda client_id: reply(b"[" * 16_000),
        lambda client_id: reply(described(client_id, **SIGNS)),
        lambda client_id: reply(described(client_id, **SIGNS, jwks={"keys": []})),
        lambda client_id: reply(described(client_id, **SIGNS, jwks_uri="http://client.example/keys")),
        lambda client_id: reply(described(client_id, **SIGNS, jwks_uri=client_id)),
        lambda client_id: reply(described(client_id, padding="x" * 20_000)),
        lambda client_id: reply(described(client_id), "HTTP/1.1 302 Found\r\nlocation: https://evil.test/\r\n"),
        lambda client_id: reply(described(client_id), "HTTP/1.1 404 No\r\ncontent-type: application/json\r\n"),
        lambda client_id: reply(described(client_id), "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n"),
        lambda client_id: reply(described(client_id), "x: " + "y" * 40_000 + "\r\n"),
        lambda client_id: b"nonsense\r\n\r\n",
        lambda client_id: (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        ),
    ],
)
async def test_what_is_no_document(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], bytes]
) -> None:
    """Whatever a host answers, there is a good client or none; and a failure is not remembered."""
    where: dict[str, str] = {}
    async with site(authority, lambda path: answer(where["id"])) as (port, seen):
        where["id"] = f"https://{HOST}:{port}/tool.json"
        found = fetcher(authority, monkeypatch)
        assert await found.client(where["id"]) is None
        assert await found.client(where["id"]) is None
        assert len(seen) >= 2


async def test_few_are_fetched_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While some are fetched, and that hangs, others are to come back, and those who ask for the same wait with them;
    and it ends."""
    begun, go = [], asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        begun.append(host)
        await go.wait()
        raise OSError

    found = Documents(enabled=True, resolve=resolve)
    tasks = [asyncio.create_task(found.client(f"https://{HOST}/{n}.json")) for n in range(documents.AT_ONCE)]
    await until(lambda: len(begun) == documents.AT_ONCE)
    with pytest.raises(Unavailable):
        await found.client(f"https://{HOST}/more.json")
    more = [asyncio.create_task(found.client(f"https://{HOST}/0.json")) for _ in range(20)]
    go.set()
    assert await asyncio.gather(*tasks, *more) == [None] * (documents.AT_ONCE + 20)
    assert len(begun) == documents.AT_ONCE
    monkeypatch.setattr(documents, "SECONDS", 0.01)
    go.clear()
    assert await found.client(f"https://{HOST}/hangs.json") is None
    assert len(begun) == documents.AT_ONCE + 1


async def test_who_leaves_takes_no_document_along(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked first may leave, and the others who wait for the same document get it; at the end nothing runs."""
    asked, go = asyncio.Event(), asyncio.Event()
    where: dict[str, str] = {}
    async with site(authority, lambda path: reply(described(where["id"]))) as (port, seen):
        where["id"] = f"https://{HOST}:{port}/tool.json"
        found = fetcher(authority, monkeypatch)
        resolve = found._resolve

        async def slow(host: str, port: int) -> Sequence[str]:
            asked.set()
            await go.wait()
            return await resolve(host, port)

        monkeypatch.setattr(found, "_resolve", slow)
        first = asyncio.create_task(found.client(where["id"]))
        await asked.wait()
        others = [asyncio.create_task(found.client(where["id"])) for _ in range(20)]
        first.cancel()
        go.set()
        assert {client.name for client in await asyncio.gather(*others) if client} == {"Tool"}
        assert len(seen) == 1
        asked.clear()
        go.clear()
        left = asyncio.create_task(found.client(f"https://{HOST}:{port}/other.json"))
        await asked.wait()
        await found.stop()
        with pytest.raises(asyncio.CancelledError):
            await left


async def test_a_host_that_is_away(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody answers there, or only with trouble, a client that was known stays as it was, for a day at most;
    what its host says counts when it says something, and so does a no."""
    where: dict[str, Any] = {}
    async with site(authority, lambda path: where["answer"]()) as (port, seen):
        named = f"https://{HOST}:{port}/tool.json"
        found = fetcher(authority, monkeypatch)
        steps: list[tuple[float, Callable[[], bytes], str | None, int]] = [
            (0, lambda: reply(described(named)), "Tool", 1),
            (400, lambda: reply(b"", "HTTP/1.1 503 No\r\n"), "Tool", 2),
            (430, lambda: b"", "Tool", 2),
            (500, lambda: b"", "Tool", 3),
            (1000, lambda: reply(described(named, client_name="New")), "New", 4),
            (87_000, lambda: b"", "New", 5),
            (88_000, lambda: b"", None, 6),
            (89_000, lambda: reply(described(named)), "Tool", 7),
            (90_000, lambda: reply(b"", "HTTP/1.1 404 No\r\n"), None, 8),
            (91_000, lambda: b"", None, 9),
        ]
        for seconds, answer, name, asked in steps:
            where["answer"] = answer
            monkeypatch.setattr(documents, "time", SimpleNamespace(monotonic=lambda seconds=seconds: seconds))
            client = await found.client(named)
            assert (client and client.name, len(seen)) == (name, asked), seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("", 300), ("no-store", 300), ("max-age=10", 300), ("max-age=3600", 3600), ("max-age=999999999", 86_400)],
)
def test_how_long_a_document_is_remembered(said: str, seconds: float) -> None:
    """As long as its host says, between five minutes and a day."""
    assert documents._lasting({"cache-control": said}) == seconds


INSIDE = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1"]
INSIDE += ["fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::1", "ff02::1", "fe80::1%eth0"]
INSIDE += ["64:ff9b::a00:1", "64:ff9b:1::a00:1", "::10.0.0.1", "::ffff:0:10.0.0.1", "fec0::1", "2001:0:a00:1::1"]
OUTSIDE = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
NOT_FETCHED = ["http://a.test/x", "https://a.test", "https://a.test/", "https://u@a.test/x", "https://a.test/x#y"]
NOT_FETCHED += [
    "https://a.test/../x",
    "https://a.test/%2e%2e/x",
    "https://a.test/x?y",
    "https:///x",
    "https://a.test:x/y",
]


@pytest.mark.parametrize("address", INSIDE)
async def test_nothing_inside_is_reached(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A name that leads to an address that is not public is not asked, even if others of its addresses are public."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8", address]

    async def connect(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was reached")

    monkeypatch.setattr(asyncio, "open_connection", connect)
    assert await Documents(enabled=True, resolve=resolve).client(f"https://{HOST}/tool.json") is None


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_outside(address: str) -> None:
    """Public addresses are asked, also those of IPv4 as networks that have only IPv6 write them."""
    assert documents._public([address]) == str(ipaddress.ip_address(address))


@pytest.mark.parametrize("client_id", NOT_FETCHED)
def test_ids_that_are_not_fetched(client_id: str) -> None:
    """https with a path, without dot segments, fragment, query and user."""
    assert not is_safe_id(client_id)


@given(st.text(max_size=80))
def test_any_text_is_an_id_or_none(text: str) -> None:
    """Nothing breaks the look at an id."""
    assert is_safe_id(text) in {True, False}
    assert is_safe_id("https://a.test/" + text) in {True, False}
