"""Running a coroutine up to its first wait must change nothing but the moment at which something else is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewaykit.stepping import before_wait, closing, within

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
STEPS = ["soon", "bare", "failing", "task", "deaf", "tidy", "limited", "ready"]
Trace = list[object]

each_loop = pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])


def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


async def nothing() -> None:
    pass


def later(ticks: int, action: Callable[..., object], *arguments: object) -> None:
    """Do ``action`` after so many turns of the loop."""
    loop = asyncio.get_running_loop()
    if ticks:
        loop.call_soon(later, ticks - 1, action, *arguments)
    else:
        action(*arguments)


async def soon(trace: Trace) -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    later(1, lambda: future.done() or future.set_result("value"))
    trace.append(await future)


async def failing(trace: Trace) -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    later(1, lambda: future.done() or future.set_exception(LookupError("from the future")))
    try:
        await future
    except LookupError as error:
        trace.append(str(error))


async def step(kind: str, trace: Trace) -> None:
    trace.append(kind)
    match kind:
        case "soon":
            await soon(trace)
        case "bare":
            await asyncio.sleep(0)
        case "failing":
            await failing(trace)
        case "task":
            child = asyncio.create_task(soon(trace))
            try:
                await child
            finally:
                trace.append(("child", child.done(), child.cancelled()))
        case "deaf":
            with contextlib.suppress(asyncio.CancelledError):
                await soon(trace)
        case "tidy":
            try:
                await soon(trace)
            finally:
                await asyncio.sleep(0)
                trace.append("tidied")
        case "limited":
            async with asyncio.timeout(60):
                await soon(trace)


async def program(kinds: list[str], ending: Exception | str, trace: Trace) -> str:
    try:
        for kind in kinds:
            await step(kind, trace)
        if isinstance(ending, Exception):
            raise ending
        return ending
    except BaseException as error:
        trace.append(type(error))
        raise
    finally:
        trace.append("left")


async def outcome(awaitable: Callable[[], Awaitable[object]], cancel_after: int | None) -> object:
    """The result or exception of a task that awaits, cancelled after so many turns; nothing else may be left."""

    async def body() -> object:
        return await awaitable()

    task = asyncio.create_task(body())
    if cancel_after is not None:
        later(cancel_after, task.cancel)
    try:
        return await task
    except (ValueError, OSError, asyncio.CancelledError) as error:
        return type(error), str(error)
    finally:
        assert asyncio.all_tasks() == {asyncio.current_task()}


programs = st.tuples(
    st.lists(st.sampled_from(STEPS), max_size=4),
    st.one_of(st.just("result"), st.builds(ValueError, st.just("the end"))),
)


@each_loop
@settings(max_examples=50, deadline=None)
@given(programs, st.none() | st.integers(0, 12))
def test_a_step_that_does_nothing_before_the_wait_is_a_plain_await(
    loop_factory: Any, given_program: Any, cancel_after: int | None
) -> None:
    """Whatever waits, fails or is cancelled: result, exception and everything seen inside are those of ``await``."""
    kinds, ending = given_program

    async def main() -> None:
        plain: Trace = []
        stepped: Trace = []
        wanted = await outcome(lambda: program(kinds, ending, plain), cancel_after)
        got = await outcome(lambda: before_wait(program(kinds, ending, stepped), nothing), cancel_after)
        assert (got, stepped) == (wanted, plain)

    run(loop_factory, main)


@each_loop
@settings(max_examples=50, deadline=None)
@given(programs, st.none() | st.integers(0, 12), st.lists(st.sampled_from(STEPS), max_size=3), st.booleans())
def test_whatever_is_done_before_the_wait_what_waits_is_left_as_it_should_be(
    loop_factory: Any, given_program: Any, cancel_after: int | None, before: list[str], breaks: bool
) -> None:
    """Waiting, failing or being cancelled before the wait leaves no task behind and runs every ``finally``."""
    kinds, ending = given_program
    trace: Trace = []
    done: list[str] = []

    async def flush() -> None:
        done.append("begun")
        await program(before, OSError("the client is gone") if breaks else "flushed", [])

    async def main() -> None:
        got = await outcome(lambda: before_wait(program(kinds, ending, trace), flush), cancel_after)
        waits = set(kinds) - {"ready"}
        started = cancel_after != 0 or trace
        assert done == (["begun"] if started and waits else [])
        assert trace[-1:] == (["left"] if started else [])
        if cancel_after is None:
            assert trace.count("tidied") == trace.count("tidy")
        if breaks and waits:
            assert got == (OSError, "the client is gone") or cancel_after is not None or "deaf" in kinds
        elif cancel_after is None:
            assert got == (ending if isinstance(ending, str) else (ValueError, "the end"))

    run(loop_factory, main)


@each_loop
def test_a_flush_that_fails_leaves_an_iterator_that_can_be_closed(loop_factory: Any) -> None:
    """An asynchronous generator whose clean-up waits is wholly cleaned up when the flush before its wait fails."""
    cleaned: list[str] = []

    async def events() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append("slowly")

    async def gone() -> None:
        raise OSError("gone")

    async def main() -> None:
        async with closing(events()) as iterator:
            with pytest.raises(OSError, match="gone"):
                await before_wait(iterator.__anext__(), gone)
        assert cleaned == ["slowly"]

    run(loop_factory, main)


@each_loop
def test_cancelling_a_flush_cancels_the_task_that_is_waited_for(loop_factory: Any) -> None:
    """A task on which the awaitable waits is cancelled with it, as it would be without a flush."""

    async def main() -> None:
        children: list[asyncio.Task[None]] = []
        flushing = asyncio.Event()

        async def wait_for_child() -> None:
            children.append(asyncio.create_task(asyncio.sleep(60)))
            await children[0]

        async def flush() -> None:
            flushing.set()
            await asyncio.Event().wait()

        async def body() -> None:
            await before_wait(wait_for_child(), flush)

        task = asyncio.create_task(body())
        await flushing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert children[0].cancelled()

    run(loop_factory, main)


def test_a_coroutine_that_is_closed_while_it_waits_closes_what_it_waits_for() -> None:
    """Closing from outside, as the interpreter does with forgotten coroutines, reaches the inside at either wait."""

    class Forever:
        def __await__(self) -> Any:
            yield

    for flush in (nothing, lambda: asyncio.sleep(0)):
        left: list[str] = []

        async def inside(left: list[str] = left) -> None:
            try:
                await Forever()
            finally:
                left.append("left")

        async def body(flush: Any = flush, inside: Any = inside) -> None:
            await before_wait(inside(), flush)

        coroutine = body()
        coroutine.send(None)
        coroutine.close()
        assert left == ["left"]


@each_loop
@settings(max_examples=50, deadline=None)
@given(programs, st.none() | st.integers(0, 12))
def test_a_deadline_that_is_far_away_changes_nothing(
    loop_factory: Any, given_program: Any, cancel_after: int | None
) -> None:
    """``within`` gives the result or the exception of a plain ``await`` when there is time enough."""
    kinds, ending = given_program

    async def main() -> None:
        plain: Trace = []
        limited: Trace = []
        wanted = await outcome(lambda: program(kinds, ending, plain), cancel_after)
        got = await outcome(lambda: within(60, program(kinds, ending, limited)), cancel_after)
        assert (got, limited) == (wanted, plain)

    run(loop_factory, main)


@each_loop
def test_a_deadline_cuts_a_wait_and_nothing_else(loop_factory: Any) -> None:
    """What waits too long is cancelled and gives TimeoutError; one of its own passes; the task itself goes on."""

    async def main() -> None:
        left: list[str] = []

        async def hangs() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                left.append("left")

        with pytest.raises(TimeoutError):
            await within(0.01, hangs())
        assert left == ["left"]

        async def gives_up() -> None:
            raise TimeoutError("of its own")

        with pytest.raises(TimeoutError, match="of its own"):
            await within(60, gives_up())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    run(loop_factory, main)


async def test_an_iterator_without_aclose_need_not_be_closed() -> None:
    """``closing`` closes what can be closed, and lets the rest be."""

    class Plain:
        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            raise StopAsyncIteration

    async with closing(Plain()) as iterator:
        assert [item async for item in iterator] == []
