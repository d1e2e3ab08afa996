"""The provider's name cannot be resolved, only slowly, now and then, or wrongly.

A name that does not exist is asked of the machine's own resolver. Answers that are slow, come and go, or are wrong
cannot be had from it on any machine: there ``getaddrinfo`` is replaced, which is where the gateway's part ends.
"""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from .conftest import Opener
from .page import Row
from .upstreams import HOST, Mode, ask, config, gated, names, saved, well

NOBODY = "model.invalid"
"""A name that never exists (RFC 6761, 6.4)."""

SOON = 0.2


async def failing(world: Opener, row: Row, mode: Mode) -> None:
    """Three calls with a name that nobody has looked up yet, one with a fallback, and one when it is over."""
    async with gated() as gate:
        with names() as dns:
            async with world(**config(f"http://{HOST}:{gate.port}/v1", mode)) as it:
                dns.mode = mode
                row.holds(*[await ask(it.http) for _ in range(3)])
                await saved(it.http)
                assert (gate.requests, dns.asked > 0) == (0, True)
                dns.mode = "pass"
                dns.release()
                await well(it.http)


async def test_dns_down(world: Opener, row: Row) -> None:
    """There is no such name: the client is told at once that the provider is away; the same where it was there once."""
    await failing(world, row, "refuse")
    await _require_a_resolver()
    async with world(**config(f"http://{NOBODY}/v1")) as it:
        row.holds(*[await ask(it.http) for _ in range(3)])
        await saved(it.http)


async def _require_a_resolver() -> None:
    """Skip where the machine's resolver does not say no, or not in time: then this is another row of the page."""
    began = time.monotonic()
    with pytest.raises(OSError, match=r"\["):
        await asyncio.get_running_loop().getaddrinfo(NOBODY, 80, type=socket.SOCK_STREAM)
    if time.monotonic() - began > SOON:
        pytest.skip(f"this machine's resolver needs more than {SOON} s to say that there is no {NOBODY}")


async def test_dns_slow(world: Opener, row: Row) -> None:
    """Nobody answers for the name: the call waits for ``connect_timeout``, and no longer."""
    await failing(world, row, "hang")


async def test_dns_flapping(world: Opener, row: Row) -> None:
    """Every other question fails: the other calls are answered."""
    async with gated() as gate:
        with names() as dns:
            async with world(**config(f"http://{HOST}:{gate.port}/v1")) as it:
                for number in range(8):
                    dns.mode = "refuse" if number % 2 == 0 else "pass"
                    row.holds(await ask(it.http))
                dns.mode = "pass"
                await well(it.http)


async def test_dns_garbage(world: Opener, row: Row) -> None:
    """The name leads to an address where nobody is: as if the provider were down, until the name is looked up anew."""
    async with gated() as gate:
        with names() as dns:
            async with world(**config(f"http://{HOST}:{gate.port}/v1")) as it:
                dns.mode = "nonsense"
                row.holds(*[await ask(it.http) for _ in range(3)])
                await saved(it.http)
                assert (gate.requests, dns.asked > 0) == (0, True)
