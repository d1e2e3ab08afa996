"""Work of many callers, done together: while some is under way, what comes waits and goes with the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from gatewaykit.errors import Unavailable

T = TypeVar("T")
_MOST = 64

Do: TypeAlias = Callable[[Sequence[T], Callable[[], bool]], Awaitable[Sequence[Any]]]
"""Returns a result for each of the items, or raises for all. The function it is given says, to any thread, whether all
callers still wait; just before it makes something permanent it asks, and raises :class:`Withdrawn` if they do not.
"""


class Withdrawn(Exception):
    """A caller has gone, and nothing was made permanent: the others are to be tried again."""


class Together(Generic[T]):
    """Hands items to ``do``, as many as wait.

    Nobody waits longer than for what is under way: alone, an item is done at once. Where ``do`` fails for several, each
    is tried by itself, unless the error is :class:`~gatewaykit.errors.Unavailable`, which would meet them all.
    """

    def __init__(self, do: Do[T]) -> None:
        self._do = do
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line[T]] = WeakKeyDictionary()

    async def run(self, item: T) -> Any:
        """The result of ``item``. For a caller that is cancelled at the last moment it may be done all the same."""
        return await self._line().put(item)

    def leave(self, item: T) -> None:
        """Let ``item`` be done; nobody waits for its result."""
        self._line().put(item).add_done_callback(_notice)

    def _line(self) -> _Line[T]:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line(self._do)
        return line


class _Line(Generic[T]):
    """What waits in one event loop."""

    def __init__(self, do: Do[T]) -> None:
        self._do = do
        self._waiting: deque[tuple[T, asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, item: T) -> asyncio.Future[Any]:
        """The result to come. What is done has the context of nobody: it is for many."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = loop.create_task(self._run(), name="gatewaykit-together", context=Context())
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._try([self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))])
        finally:
            self._task = None
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()

    async def _try(self, waiting: Sequence[tuple[T, asyncio.Future[Any]]]) -> None:
        batch = [(item, future) for item, future in waiting if not future.done()]
        if not batch:
            return
        try:
            results = await self._do(
                [item for item, _ in batch], lambda: not any(future.cancelled() for _, future in batch)
            )
        except Withdrawn:
            await self._try(batch)
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            await self._failed(batch, error)
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _failed(self, batch: Sequence[tuple[T, asyncio.Future[Any]]], error: Exception) -> None:
        if len(batch) > 1 and not isinstance(error, Unavailable):
            for one in batch:
                await self._try([one])
            return
        for _, future in batch:
            if not future.done():
                future.set_exception(error)


def _notice(future: asyncio.Future[Any]) -> None:
    """Nobody may be left to ask for the error: then it must not be reported as forgotten."""
    if not future.cancelled():
        future.exception()
