"""Several processes before the same credentials: each has its own queue, and keys get their shares all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from gatewaykit.limiting.memory import MemoryBackend
from gatewaykit_gigachat.pool import Ask, Member, Pool, QueueBounds, SharedSlots

from .test_pool import Account

CALLS = 900
CALLERS = 6
SECONDS = 0.004
BOUNDS = QueueBounds(longest=500, longest_line=100, max_wait=60)


def pool_of(backend: MemoryBackend) -> Pool:
    """What one process has: the counts alone are shared."""
    nothing: Any = None
    account: Any = Account("one")
    return Pool([Member("one", account, nothing, slots=4)], SharedSlots(backend), BOUNDS)


async def served(processes: list[dict[str, float]]) -> tuple[Counter[str], int]:
    """How many calls each key got while all of them always had some waiting, and how many there were at a time at the
    most; of each process the keys that come to it, with their weights.
    """
    done: Counter[str] = Counter()
    backend = MemoryBackend()
    running = most = 0

    async def caller(pool: Pool, key: str, weight: float) -> None:
        nonlocal running, most
        while sum(done.values()) < CALLS:
            lease = await pool.lease(Ask(key, "m", weight))
            running += 1
            most = max(most, running)
            await asyncio.sleep(SECONDS)  # the call itself takes a while
            running -= 1
            lease.end()
            done[key] += 1

    pools = [pool_of(backend) for _ in processes]
    try:
        async with asyncio.TaskGroup() as group:
            for pool, keys in zip(pools, processes, strict=True):
                for key, weight in keys.items():
                    for _ in range(CALLERS):
                        group.create_task(caller(pool, key, weight))
    finally:
        for pool in pools:
            await pool.aclose()
    return done, most


@pytest.mark.parametrize("crowd", [1, 5])
async def test_a_key_gets_its_share_wherever_it_waits(crowd: int) -> None:
    """A key that is alone in its process gets no more than those who share theirs, within what chance makes of it; and
    no place is taken twice.
    """
    done, most = await served([{f"k{number}": 1.0 for number in range(crowd)}, {"alone": 1.0}])
    assert most <= 4
    assert max(done.values()) / min(done.values()) < 2


async def test_weights_count_between_processes() -> None:
    """A key of weight 4 gets four times what another one gets in another process, roughly."""
    done, _ = await served([{"heavy": 4.0}, {"light": 1.0}])
    assert 2 < done["heavy"] / done["light"] < 8
