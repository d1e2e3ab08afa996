"""Work of many callers, done together: while some is under way, what comes waits and goes with the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from gatewaykit.errors import Unavailable

T = TypeVar("T")
_MOST = 64

Do: TypeAlias = Callable[[Sequence[T], Callable[[], bool]], Awaitable[Sequence[Any]]]
"""Returns a result for each of the items, or raises for all. The function it is given says, to any thread, whether any
of them is still wanted; just before it makes something permanent it asks, and raises :class:`Withdrawn` if none is.
"""

_Waiting: TypeAlias = tuple[T, asyncio.Future[Any]]


class Withdrawn(Exception):
    """All callers have gone, and nothing was made permanent."""


class Together(Generic[T]):
    """Hands items to ``do``, as many as wait.

    Nobody waits longer than for what is under way: alone, an item is done at once. Where ``do`` fails for several, each
    is tried by itself, unless the error is :class:`~gatewaykit.errors.Unavailable`, which would meet them all.
    """

    def __init__(self, do: Do[T]) -> None:
        self._do = do
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line[T]] = WeakKeyDictionary()

    async def run(self, item: T) -> Any:
        """The result of ``item``, which is not done where the caller is cancelled before its turn; later it may be, for
        the sake of those with whom it goes.
        """
        return await self._line().put(item)

    async def see_through(self, item: T) -> Any:
        """The result of ``item``, which is done also where the caller is cancelled."""
        future = self._line().put(item)
        await asyncio.wait([future])
        return future.result()

    def leave(self, item: T) -> None:
        """Let ``item`` be done; nobody waits for its result."""
        self._line().put(item)

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
        self._waiting: deque[_Waiting[T]] = deque()
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
        except asyncio.CancelledError:
            _cancel(self._waiting)
            self._waiting.clear()
            raise
        finally:
            self._task = None

    async def _try(self, waiting: Sequence[_Waiting[T]]) -> None:
        batch = [(item, future) for item, future in waiting if not future.done()]
        if not batch:
            return
        items, futures = [item for item, _ in batch], [future for _, future in batch]
        results: Sequence[Any] = ()
        failed: Exception | None = None
        try:
            results = await self._do(items, lambda: not all(future.cancelled() for future in futures))
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            failed = error
        except asyncio.CancelledError:
            _cancel(batch)
            raise
        if failed is not None and len(batch) > 1 and not isinstance(failed, Unavailable):
            for one in batch:
                await self._try([one])
        else:
            _answer(futures, results, failed)


def _answer(futures: Sequence[asyncio.Future[Any]], results: Sequence[Any], failed: Exception | None) -> None:
    for place, future in enumerate(futures):
        if future.done():
            continue
        if failed is not None:
            future.set_exception(failed)
            future.exception()  # where nobody waits it must not be reported as forgotten
        else:
            future.set_result(results[place])


def _cancel(waiting: Iterable[_Waiting[Any]]) -> None:
    for _, future in waiting:
        future.cancel()
