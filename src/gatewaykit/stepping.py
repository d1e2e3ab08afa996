"""Running a coroutine up to its first wait.

Most awaitables on the request's way are ready at once: a cached answer, the next event of a block already read.
Arming a timer or writing to the client is worth its price only before a real wait; :func:`before_wait` finds that
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@coroutine
def _stepped(awaitable: Awaitable[T], then: Callable[[], Awaitable[None]]) -> Generator[Any, Any, T]:
    inner = awaitable.__await__()
    try:
        pending = next(inner)
    except StopIteration as done:
        result: T = done.value
        return result
    return (yield from _waited(inner, pending, then))


@coroutine
def _waited(inner: Generator[Any, Any, T], pending: Any, then: Callable[[], Awaitable[None]]) -> Generator[Any, Any, T]:
    try:
        yield from then().__await__()
    except GeneratorExit:
        inner.close()
        raise
    except BaseException:
        # Whoever waits inside must be through with it, or its iterator would count as still running.
        with suppress(asyncio.CancelledError):
            yield from _cancelled(inner, pending)
        raise
    result: T = yield from _driven(inner, pending)
    return result


def _driven(inner: Generator[Any, Any, Any] | Coroutine[Any, Any, Any], pending: Any) -> Generator[Any, Any, Any]:
    """Run ``inner``, which waits for ``pending``, to its end."""
    while True:
        try:
            try:
                value = yield pending
            except BaseException as error:  # noqa: BLE001 - it is passed on, to where it would have been raised
                pending = inner.throw(error)
            else:
                pending = inner.send(value)
        except StopIteration as done:
            return done.value


def _cancelled(inner: Generator[Any, Any, Any], pending: Any) -> Generator[Any, Any, Any]:
    """Run ``inner`` to its end after a cancellation, which reaches the task that it may be waiting for, as usual."""
    if pending is None or not pending.cancel():
        try:
            pending = inner.throw(asyncio.CancelledError())
        except StopIteration:
            return
    yield from _driven(inner, pending)


def before_wait(awaitable: Awaitable[T], then: Callable[[], Awaitable[None]]) -> Awaitable[T]:
    """The result of ``awaitable``; if it has to wait, ``then`` is awaited once when it begins to wait.

    An error of ``then`` is raised after ``awaitable`` was cancelled.
    """
    return _stepped(awaitable, then)


def waited(inner: Generator[Any, Any, T], pending: Any, then: Callable[[], Awaitable[None]]) -> Awaitable[T]:
    """The rest of what :func:`before_wait` does, for a caller that took the first step itself, to save a coroutine.

    ``inner`` is ``awaitable.__await__()`` and ``pending`` what its first ``next`` gave.
    """
    return _waited(inner, pending, then)


@coroutine
def within(seconds: float, awaitable: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """The result of ``awaitable``, which may wait for ``seconds``. Raises :class:`TimeoutError` after that."""
    inner = awaitable.__await__()
    try:
        pending = next(inner)
    except StopIteration as done:
        result: T = done.value
        return result
    return (yield from bounded(seconds, inner, pending).__await__())


async def bounded(seconds: float, inner: Generator[Any, Any, T] | Coroutine[Any, Any, T], pending: Any) -> T:
    """The rest of what :func:`within` does, for a caller that took the first step itself: ``pending`` came of it."""
    async with asyncio.timeout(seconds):
        return await _resumed(inner, pending)


@coroutine
def _resumed(inner: Generator[Any, Any, T] | Coroutine[Any, Any, T], pending: Any) -> Generator[Any, Any, T]:
    result: T = yield from _driven(inner, pending)
    return result


def astray() -> bool:
    """Whether nobody has cancelled the running task: then a ``CancelledError`` in it is of something that it awaited,
    and is the defect of whoever let it out.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


class closing(Generic[T]):  # noqa: N801 - named like contextlib.aclosing, which wants an AsyncGenerator
    """Closes an asynchronous iterator on leaving, if it can be closed."""

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        self._iterator = iterator

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._iterator

    async def __aexit__(self, *_: object) -> None:
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()
