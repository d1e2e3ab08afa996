"""The model provider is down, slow, flapping, or talks nonsense."""

from __future__ import annotations

from .conftest import Opener
from .page import Row
from .upstreams import Mode, ask, config, gated, saved, well


async def failing(world: Opener, row: Row, mode: Mode) -> None:
    """Three calls meanwhile, one with a fallback, and one when it is over."""
    async with gated() as gate, world(**config(f"http://127.0.0.1:{gate.port}/v1", mode)) as it:
        await well(it.http)
        gate.mode = mode
        before = gate.requests
        row.holds(*[await ask(it.http) for _ in range(3)])
        await saved(it.http)
        assert gate.requests == before
        gate.mode = "pass"
        await well(it.http)


async def test_provider_down(world: Opener, row: Row) -> None:
    """It closes connections: the client is told so at once."""
    await failing(world, row, "refuse")


async def test_provider_slow(world: Opener, row: Row) -> None:
    """It accepts and does not answer: the client waits for the limit of the first event, and no longer."""
    await failing(world, row, "hang")


async def test_provider_flapping(world: Opener, row: Row) -> None:
    """It goes and comes again: each call has the one outcome or the other, and with a fallback all are answered."""
    async with gated() as gate, world(**config(f"http://127.0.0.1:{gate.port}/v1")) as it:
        for number in range(12):
            gate.mode = "pass" if number % 3 else "refuse"
            row.holds(await ask(it.http))
            assert (await ask(it.http, "pair")).status_code == 200
        gate.mode = "pass"
        await well(it.http)


async def test_provider_garbage(world: Opener, row: Row) -> None:
    """What it sends is not HTTP: nothing of it reaches the client."""
    await failing(world, row, "nonsense")
