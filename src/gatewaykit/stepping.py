"""Running a coroutine up to its first wait.

Most awaitables on the request's way are ready at once: a cached answer, the next event of a block already read.
Arming a timer or writing to the client is worth its price only before a real wait; :func:`before_wait` finds that
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


@coroutine
def _stepped(awaitable: Awaitable[T], then: Callable[[], Awaitable[None]]) -> Generator[Any, Any, T]:
    inner = awaitable.__await__()
    try:
        pending = next(inner)
    except StopIteration as done:
        return cast("T", done.value)
    try:
        yield from then().__await__()
    except BaseException as error:
        # Whoever waits inside must hear of it, or its iterator would count as still running.
        inner.throw(error)
        raise
    while True:
        try:
            value = yield pending
        except BaseException as error:  # noqa: BLE001 - handed on to where the awaitable waits
            try:
                pending = inner.throw(error)
            except StopIteration as done:
                return cast("T", done.value)
        else:
            try:
                pending = inner.send(value)
            except StopIteration as done:
                return cast("T", done.value)


def before_wait(awaitable: Awaitable[T], then: Callable[[], Awaitable[None]]) -> Awaitable[T]:
    """The result of ``awaitable``; if it has to wait, ``then`` is awaited once when it begins to wait."""
    return cast("Awaitable[T]", _stepped(awaitable, then))


async def within(seconds: float, awaitable: Coroutine[Any, Any, T]) -> T:
    """The result of ``awaitable``, which may wait for ``seconds``. Raises :class:`TimeoutError` after that."""
    async with asyncio.timeout(None) as limit:

        async def arm() -> None:
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

        return await before_wait(awaitable, arm)


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
