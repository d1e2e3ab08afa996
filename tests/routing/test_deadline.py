"""A deadline cancels what takes too long, tells its own cancellation from others, and leaves none behind."""

from __future__ import annotations

import asyncio

import pytest

from gatewaykit.attempts.deadline import Deadline


async def limited(seconds: float, work: asyncio.Future[str]) -> str:
    """What ``work`` gives, or ``late``."""
    deadline = Deadline(seconds)
    try:
        return await work
    except asyncio.CancelledError:
        if deadline.passed():
            return "late"
        raise
    finally:
        deadline.end()


async def test_what_is_in_time_is_not_cancelled() -> None:
    """Nor is the task later."""
    done = asyncio.get_running_loop().create_future()
    done.set_result("done")
    assert await limited(0.001, done) == "done"
    await asyncio.sleep(0.01)


async def test_what_is_late_is_cancelled_and_nothing_else() -> None:
    """The task goes on afterwards as if nothing had been."""
    assert await limited(0.001, asyncio.get_running_loop().create_future()) == "late"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_somebody_else_s_cancellation_stays_one() -> None:
    """It is not taken for the deadline's."""
    task = asyncio.create_task(limited(60.0, asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_in_the_same_moment_the_other_cancellation_counts() -> None:
    """The deadline has fired, and somebody cancels before the task could hear of it."""
    task = asyncio.create_task(both())
    with pytest.raises(asyncio.CancelledError):
        await task


async def both() -> None:
    task = asyncio.current_task()
    assert task is not None
    deadline = Deadline(0.0)
    deadline._fire()
    task.cancel()
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        assert not deadline.passed()
        raise
    finally:
        deadline.end()
        deadline._handle.cancel()


async def test_a_swallowed_cancellation_is_taken_back() -> None:
    """Whoever goes on in spite of it is not cancelled a second time."""
    deadline = Deadline(0.001)
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        pass
    finally:
        deadline.end()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
