"""What is particular to counting in memory."""

from __future__ import annotations

import pytest

from gatewaykit.limiting import Charge, MemoryBackend, memory
from gatewaykit.limits import Limit

from .conftest import LEASE, Clock


async def test_tidying_up_loses_nothing_that_counts(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Counters are forgotten between decisions, never in the middle of one that is about to charge them."""
    monkeypatch.setattr(memory, "_TIDY_EVERY", 1)
    backend = MemoryBackend(lease=LEASE, clock=clock)
    limits = [Limit(f"key:{number}", "tokens", 9) for number in range(5)]
    for number in range(5):
        assert (await backend.reserve(f"h{number}", [Charge(limit, 1) for limit in limits])).taken
    assert [standing.used for standing in await backend.standings(limits)] == [5] * 5


async def test_those_who_are_gone_are_forgotten(clock: Clock) -> None:
    """Memory does not grow with all who ever came; seeds of a period that lasts are kept."""
    backend = MemoryBackend(lease=LEASE, clock=clock)
    budget = Limit("all", "money", 10, "month")
    await backend.seed(budget, 3)
    for number in range(10_000):
        await backend.reserve(f"h{number}", [Charge(Limit(f"model:{number}", "tokens", 9), 1)])
    clock.advance(120)
    for number in range(20_000):
        await backend.standings([Limit(f"model:{number % 10}", "tokens", 9)])
    assert len(backend._counters) < 20
    assert [standing.used for standing in await backend.standings([budget])] == [3]
