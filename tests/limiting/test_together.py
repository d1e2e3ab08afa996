"""Work of many callers, done together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain

import pytest

from gatewaykit.errors import Unavailable
from gatewaykit.limiting.together import Together, Withdrawn


class Desk:
    """Doubles numbers, each time it is let; negative ones it cannot, and for 13 it is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.made: list[int] = []
        self.begun = asyncio.Event()
        self.turns = asyncio.Semaphore(0)
        self.together: Together[int] = Together(self.do)

    async def do(self, items: Sequence[int], wanted: Callable[[], bool]) -> Sequence[int]:
        self.batches.append(list(items))
        self.begun.set()
        await self.turns.acquire()
        if 13 in items:
            raise Unavailable(detail="closed")
        if min(items) < 0:
            raise ValueError("negative")
        if not wanted():
            raise Withdrawn
        self.made += items
        return [item * 2 for item in items]

    async def turn(self) -> None:
        """Let what is under way be done, and return when the next has begun."""
        self.begun.clear()
        self.let(1)
        await self.begun.wait()

    def let(self, turns: int = 100) -> None:
        """Let it go on so many times."""
        for _ in range(turns):
            self.turns.release()

    async def ask(self, *items: int) -> list[asyncio.Task[int]]:
        """Ask for the first, and for the others while that is under way."""
        tasks = [asyncio.create_task(self.together.run(items[0]))]
        await self.begun.wait()
        tasks += [asyncio.create_task(self.together.run(item)) for item in items[1:]]
        await asyncio.sleep(0)
        return tasks


async def test_what_comes_meanwhile_goes_together() -> None:
    """The first goes at once and by itself; who comes while it is under way goes with the next, and all get theirs."""
    desk = Desk()
    tasks = await desk.ask(1, 2, 3, 4)
    assert desk.batches == [[1]]
    desk.let()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert desk.batches == [[1], [2, 3, 4]]
    assert await desk.together.run(5) == 10
    assert desk.batches[-1] == [5]


async def test_so_many_and_no_more() -> None:
    """However many wait, no more than 64 go together, in their order."""
    desk = Desk()
    tasks = await desk.ask(*range(100, 300))
    desk.let()
    assert await asyncio.gather(*tasks) == [number * 2 for number in range(100, 300)]
    assert [len(batch) for batch in desk.batches] == [1, 64, 64, 64, 7]
    assert list(chain.from_iterable(desk.batches)) == list(range(100, 300))


async def test_one_that_fails_does_so_alone() -> None:
    """What is wrong with one is its own: the others are done without it."""
    desk = Desk()
    tasks = await desk.ask(1, 2, -3, 4)
    desk.let()
    first, second, third, fourth = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, second, fourth) == (2, 4, 8)
    assert isinstance(third, ValueError)
    assert desk.batches == [[1], [2, -3, 4], [2], [-3], [4]]


async def test_where_nothing_is_done_nobody_is_tried_again() -> None:
    """What is not available is so for all who went together, and for nobody after them."""
    desk = Desk()
    tasks = await desk.ask(1, 2, 13)
    desk.let()
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert first == 2
    assert [type(second), type(third)] == [Unavailable, Unavailable]
    assert desk.batches == [[1], [2, 13]]
    assert await desk.together.run(5) == 10


async def test_who_leaves_is_in_nobody_s_way() -> None:
    """Nothing is made for who is cancelled before its turn, or where all are; with others it is made, and only once."""
    desk = Desk()
    tasks = await desk.ask(1, 2, 3, 4)
    tasks[0].cancel()
    tasks[1].cancel()
    await desk.turn()
    tasks[2].cancel()
    desk.let()
    *gone, fourth = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in gone] == [asyncio.CancelledError] * 3
    assert fourth == 8
    assert desk.batches == [[1], [3, 4]]
    assert desk.made == [3, 4]


async def test_what_is_seen_through_is_made_whoever_leaves() -> None:
    """It is made though its caller is cancelled, before its turn or while it is under way, and whoever goes with it."""
    desk = Desk()
    tasks = [asyncio.create_task(desk.together.see_through(1))]
    await desk.begun.wait()
    tasks += [asyncio.create_task(desk.together.see_through(2)), asyncio.create_task(desk.together.run(3))]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await desk.turn()
    tasks[2].cancel()
    desk.let()
    gone = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in gone] == [asyncio.CancelledError] * 3
    assert await desk.together.see_through(4) == 8
    assert desk.batches == [[1], [2, 3], [4]]
    assert desk.made == [1, 2, 3, 4]


async def test_what_nobody_waits_for_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """It is done in its turn, and if it fails nobody is told."""
    desk = Desk()
    desk.let()
    desk.together.leave(-1)
    desk.together.leave(2)
    assert await desk.together.run(3) == 6
    assert desk.batches == [[-1, 2, 3], [-1], [2], [3]]
    assert not caplog.records


async def test_the_end_of_an_event_loop_leaves_nobody_waiting() -> None:
    """When all tasks are cancelled, what is under way is, and so are all who wait for their turn."""
    desk = Desk()
    tasks = await desk.ask(1, 2)
    (worker,) = [task for task in asyncio.all_tasks() if task.get_name() == "gatewaykit-together"]
    worker.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 2


def test_each_event_loop_has_its_own() -> None:
    """The same one serves in one event loop after the other."""

    async def use() -> int:
        found: int = await together.run(4)
        return found

    async def do(items: Sequence[int], wanted: Callable[[], bool]) -> Sequence[int]:
        await asyncio.sleep(0)
        return [item * 2 for item in items]

    together: Together[int] = Together(do)
    assert [asyncio.run(use()) for _ in range(2)] == [8, 8]
