"""What is particular to counting in memory."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from gatewaykit.limiting import Charge, Charges, MemoryBackend, memory
from gatewaykit.limits import Limit

from .conftest import LEASE, Clock, seed


async def test_tidying_up_loses_nothing_that_counts(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Counters are forgotten between decisions, never in the middle of one that is about to charge them."""
    monkeypatch.setattr(memory, "_TIDY_EVERY", 1)
    backend = MemoryBackend(lease=LEASE, clock=clock)
    limits = [Limit(f"key:{number}", "tokens", 9) for number in range(5)]
    for number in range(5):
        assert (await backend.reserve(f"h{number}", [Charge(limit, 1) for limit in limits])).taken
    assert [standing.used for standing in await backend.standings(limits)] == [5] * 5


async def test_limits_that_are_remembered_count_where_others_look(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Who comes again and again with the same limits shares them with everybody, also after they were tidied up, or
    their period was forgotten.
    """
    monkeypatch.setattr(memory, "_TIDY_EVERY", 1)
    backend = MemoryBackend(lease=LEASE, clock=clock)
    limits = (Limit("all", "tokens", 9), Limit("all", "money", 9, "month"))
    await seed(backend, limits[1], 0)
    assert (await backend.reserve("a", Charges(limits, (2, 2)))).taken
    await backend.settle("a", Charges(limits, (0, 0)))
    for number in range(5):
        await backend.standings([Limit(f"key:{number}", "tokens", 9)])
    assert (await backend.reserve("b", Charges(limits, (3, 3)))).taken
    assert [standing.used for standing in await backend.standings(limits)] == [3, 3]
    backend.forget_periods()
    assert (await backend.reserve("c", Charges(limits, (1, 1)))).unseeded == (1,)
    await seed(backend, limits[1], 5)
    assert (await backend.reserve("d", Charges(limits, (1, 1)))).taken
    await backend.settle("b", Charges(limits, (4, 4)))
    assert [standing.used for standing in await backend.standings(limits)] == [5, 6]


async def test_what_is_held_is_settled_where_it_was_taken(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A counter that stands at nothing is not forgotten while a call may still settle something in it."""
    monkeypatch.setattr(memory, "_TIDY_EVERY", 1)
    backend = MemoryBackend(lease=LEASE, clock=clock)
    limits = (Limit("all", "tokens", 9),)
    assert (await backend.reserve("a", Charges(limits, (0,)))).taken
    for number in range(5):
        await backend.standings([Limit(f"key:{number}", "tokens", 9)])
    await backend.settle("a", Charges(limits, (4,)))
    assert [standing.used for standing in await backend.standings(limits)] == [4]


async def test_those_who_are_gone_are_forgotten(clock: Clock) -> None:
    """Memory does not grow with all who ever came; seeds of a period that lasts are kept."""
    backend = MemoryBackend(lease=LEASE, clock=clock)
    budget = Limit("all", "money", 10, "month")
    await seed(backend, budget, 3)
    for number in range(10_000):
        await backend.reserve(f"h{number}", [Charge(Limit(f"model:{number}", "tokens", 9), 1)])
    clock.advance(120)
    for number in range(20_000):
        await backend.standings([Limit(f"model:{number % 10}", "tokens", 9)])
    assert len(backend._counters) < 20
    assert [standing.used for standing in await backend.standings([budget])] == [3]


@contextmanager
def threads_that_interrupt_each_other() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def test_two_event_loops_at_the_same_time_count_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """While holds are made, settled and ended, and counters forgotten, by two threads, each call is counted once, and
    what ends is counted no more.
    """
    monkeypatch.setattr(memory, "_TIDY_EVERY", 50)
    moments = itertools.count()
    backend = MemoryBackend(lease=LEASE, clock=lambda: next(moments) / 10)
    shared = (
        Limit("all", "requests", 10**6, 10**9),
        Limit("all", "tokens", 10**6),
        Limit("all", "concurrency", 10**6, 0),
    )

    async def calls(name: str) -> None:
        for number in range(2000):
            limits = (*shared, Limit(f"{name}:{number % 20}", "tokens", 10**6))
            assert (await backend.reserve(f"{name}{number}", Charges(limits, (1, 10, 1, 5)))).taken
            if number % 3:
                await backend.settle(f"{name}{number}", Charges(limits[1:], (7, 1, 2)))

    with threads_that_interrupt_each_other(), ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(asyncio.run, calls(name)) for name in ("key", "model")]:
            done.result()
    for _ in range(1000):
        next(moments)
    assert [standing.used for standing in asyncio.run(backend.standings(shared))] == [4000, 0, 0]
