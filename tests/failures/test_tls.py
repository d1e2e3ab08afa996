"""The encryption on the way to the provider is refused, hangs, comes and goes, or is not what it should be."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from .conftest import Opener
from .page import Row
from .upstreams import Mode, ask, config, gated, saved, well


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who issues the provider's certificate."""
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """The provider's side."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    """The settings of an upstream that trusts this authority, and has a key to lose."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return {"ca_bundle_file": bundle, "api_key": "sk-canary-tls"}


async def failing(world: Opener, row: Row, context: ssl.SSLContext, trusting: dict[str, Any], mode: Mode) -> None:
    """Three calls meanwhile, one with a fallback, and one when it is over."""
    async with gated(context) as gate, world(**config(f"https://127.0.0.1:{gate.port}/v1", mode, **trusting)) as it:
        gate.mode = mode
        row.holds(*[await ask(it.http) for _ in range(3)])
        await saved(it.http)
        assert gate.requests == 0
        gate.mode = "pass"
        await well(it.http)


async def test_tls_down(world: Opener, row: Row, context: ssl.SSLContext, trusting: dict[str, Any]) -> None:
    """The handshake is refused."""
    await failing(world, row, context, trusting, "refuse")


async def test_tls_slow(world: Opener, row: Row, context: ssl.SSLContext, trusting: dict[str, Any]) -> None:
    """The handshake does not come to its end: the call waits for ``connect_timeout``, and no longer."""
    await failing(world, row, context, trusting, "hang")


async def test_tls_flapping(world: Opener, row: Row, context: ssl.SSLContext, trusting: dict[str, Any]) -> None:
    """Every other handshake is refused: the other calls are answered."""
    async with gated(context) as gate, world(**config(f"https://127.0.0.1:{gate.port}/v1", **trusting)) as it:
        for number in range(8):
            gate.mode = "refuse" if number % 2 == 0 else "pass"
            row.holds(await ask(it.http))
        gate.mode = "pass"
        await well(it.http)


async def test_tls_garbage(
    world: Opener, row: Row, context: ssl.SSLContext, trusting: dict[str, Any], tmp_path: Path
) -> None:
    """What comes is no TLS, or a certificate of somebody else: no request and no key is sent."""
    await failing(world, row, context, trusting, "nonsense")
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    async with gated(stranger) as gate, world(**config(f"https://127.0.0.1:{gate.port}/v1", **trusting)) as it:
        answer = await ask(it.http)
        row.holds(answer)
        await saved(it.http)
        assert gate.requests == 0
        assert "canary" not in answer.text
