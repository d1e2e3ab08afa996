"""Blocking work in a few threads, seen from the event loop: a bounded queue, a time limit, no doubt about a commit."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from gatewaykit.errors import Unavailable

T = TypeVar("T")
_RETRY_AFTER = 1.0


class Decision:
    """Who comes first: the thread that is about to commit, or the caller who will not wait any longer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self) -> bool:
        """True for the first who asks, and for nobody else."""
        return self._lock.acquire(blocking=False)


class WorkPool:
    """``threads`` threads, and room for ``queue`` pieces of work that wait for one.

    ``timeout`` is how many seconds a caller waits, the queue included. ``refused`` counts what was not done, by reason.
    """

    def __init__(self, threads: int, queue: int, timeout: float) -> None:
        self._timeout = timeout
        self._size = threads
        self._pending: set[Future[Any]] = set()
        self.refused: Counter[str] = Counter()
        self._places = threading.BoundedSemaphore(threads + queue)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="gatewaykit-storage")

    async def run(self, work: Callable[[Decision], T]) -> T:
        """Do ``work`` in a thread. It takes the decision it is given before it makes anything permanent.

        Raises :class:`~gatewaykit.errors.Unavailable` when there is no room or the time is over, and then ``work``
        has made and will make nothing permanent; the same holds when the caller is cancelled before that decision.
        """
        decision = Decision()
        future = self._submit(work, decision)
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_notice)
        try:
            await asyncio.wait([waiting], timeout=self._timeout)
        except asyncio.CancelledError:
            if decision.take():
                future.cancel()
            raise
        if not waiting.done() and decision.take():
            future.cancel()
            self.refused["timeout"] += 1
            raise Unavailable(retry_after=_RETRY_AFTER, detail=f"database: no answer in {self._timeout:g} s")
        if not waiting.done():
            await asyncio.wait([waiting])
        if waiting.cancelled():
            raise _closed()
        return waiting.result()

    def _done(self, future: Future[Any]) -> None:
        self._pending.discard(future)
        self._places.release()

    @property
    def busy(self) -> int:
        """Threads that work."""
        return min(len(self._pending), self._size)

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for one."""
        return max(0, len(self._pending) - self._size)

    def close(self, patience: float) -> None:
        """Refuse what has not begun, and finish what is under way within ``patience`` seconds. Blocks."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        wait(tuple(self._pending), patience)

    def join(self) -> None:
        """Wait until nothing is under way any more. Blocks."""
        self._threads.shutdown()

    def _submit(self, work: Callable[[Decision], T], decision: Decision) -> Future[T]:
        if not self._places.acquire(blocking=False):
            self.refused["full"] += 1
            raise Unavailable(retry_after=_RETRY_AFTER, detail="database: too much work is waiting")
        try:
            future = self._threads.submit(work, decision)
        except RuntimeError:
            self._places.release()
            raise _closed() from None
        self._pending.add(future)
        future.add_done_callback(self._done)
        return future


def _closed() -> Unavailable:
    return Unavailable(retry_after=_RETRY_AFTER, detail="database: it is closed")


def _notice(future: asyncio.Future[Any]) -> None:
    """Nobody may be left to ask for the error: then it must not be reported as forgotten."""
    if not future.cancelled():
        future.exception()
