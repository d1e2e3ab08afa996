"""Who may see `/metrics`: this machine, who has the token, administrators; nobody by surprise."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from gatewaykit import ConfigError
from gatewaykit.serving import heads
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of, serve

TOKEN = "scrape-token-0123456789"
ADMIN_KEY = "gk_admin_0123456789abcdefghij"
ADMINS = {"keys": {"boss": ADMIN_KEY, "user": "gk_user_0123456789abcdefghij"}, "scopes": {"boss": ["admin"]}}


def gateway_of(**config: Any) -> Any:
    return make_gateway(plugin_of(providers=[FakeProvider()]), **config)


async def status(url: str, **headers: str) -> int:
    """What one scrape is answered with."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{url}/metrics", headers=headers)).status_code


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"host": "localhost:8080"}, 200),
        ({"x-forwarded-for": "198.51.100.7"}, 401),
        ({"forwarded": "for=198.51.100.7"}, 401),
        ({"via": "1.1 proxy"}, 401),
        ({"x-real-ip": "198.51.100.7"}, 401),
        ({"host": "metrics.example"}, 401),
        ({"host": ""}, 401),
    ],
)
async def test_without_a_token_only_this_machine_sees_it(headers: dict[str, str], expected: int) -> None:
    """What comes through a proxy, or by another name than this machine's own, needs a key."""
    async with serve(gateway_of()) as url:
        assert await status(url, **headers) == expected


@pytest.mark.parametrize("server", [{"host": "0.0.0.0"}, {"trusted_proxies": ["127.0.0.1"]}])
async def test_a_gateway_for_others_never_shows_it_without_credentials(server: dict[str, Any]) -> None:
    """On an address that others reach, and behind a proxy, this machine's own requests need a key, too."""
    async with serve(gateway_of(server=server)) as url:
        assert await status(url) == 401


async def test_token_opens_it() -> None:
    """With a token, nothing else does, but an administrator's key."""
    async with serve(gateway_of(metrics={"token": TOKEN}, static_keys=ADMINS)) as url:
        assert await status(url) == 401
        assert await status(url, authorization=f"Bearer {TOKEN}") == 200
        assert await status(url, authorization=f"bearer {TOKEN}") == 200
        assert await status(url, authorization=f"Bearer {TOKEN[:-1]}") == 401
        assert await status(url, authorization=f"Basic {TOKEN}") == 401
        assert await status(url, authorization=f"Bearer {ADMIN_KEY}") == 200
        assert await status(url, authorization="Bearer gk_user_0123456789abcdefghij") == 403


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_port_of_its_own_has_nothing_else() -> None:
    """With a port of its own the metrics are there and nowhere else, and nothing else is there."""
    port = free_port()
    async with serve(gateway_of(metrics={"port": port})) as url, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/metrics")).status_code == 404
        assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{port}/v1/models")).status_code == 404
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/metrics")


async def test_the_port_of_its_own_wants_the_token() -> None:
    """A token guards that port, too."""
    port = free_port()
    async with serve(gateway_of(metrics={"port": port, "token": TOKEN})):
        assert await status(f"http://127.0.0.1:{port}") == 401
        assert await status(f"http://127.0.0.1:{port}", authorization=f"Bearer {TOKEN}") == 200


async def test_who_says_nothing_keeps_nobody_from_scraping(monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections than are served at once, on which no request comes, are closed after a while."""
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.3)
    port = free_port()
    async with serve(gateway_of(metrics={"port": port})), AsyncExitStack() as stack:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
            while await status(f"http://127.0.0.1:{port}") != 200:
                pass


def test_a_port_for_others_without_a_token_is_refused() -> None:
    """The configuration says no before anything listens."""
    with pytest.raises(ConfigError, match="set a token"):
        gateway_of(metrics={"port": 9464, "host": "0.0.0.0"})


async def test_two_gateways_do_not_share_a_port() -> None:
    """A scrape of one must not be answered by the other: the second does not start."""
    port = free_port()
    async with serve(gateway_of(metrics={"port": port})):
        second = gateway_of(metrics={"port": port})
        with pytest.raises(ConfigError, match=r"metrics\.port"):
            await second.start()
        await second.stop()


async def test_a_port_in_use_keeps_the_gateway_from_starting() -> None:
    """A taken port is a fault with a name, not a gateway without metrics."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway = gateway_of(metrics={"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match=r"metrics\.port"):
            await gateway.start()
        await gateway.stop()
