"""Observers, off the client's time: records gather in a bounded queue and are handed out in batches by one thread."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import HOOK, HOOK_FAILURES, OBJECT, OBSERVER_DROPPED, OBSERVER_QUEUE, REASON
from gatewaykit.protocols import Observer
from gatewaykit.types import CallRecord

logger = logging.getLogger(__name__)
_CAPACITY = 10_000
_PAUSE = 0.05


class ObserverQueue:
    """Gives every record to every observer, in order.

    Recording costs the request an append. When observers fall behind by ``capacity`` records, the oldest are dropped
    and counted in ``dropped``. ``pause`` is how many seconds records gather before the thread wakes. Several event
    loops may share a queue: it runs from the first :meth:`start` until each has been answered by a :meth:`stop`.
    """

    def __init__(self, observers: Sequence[Observer], *, capacity: int = _CAPACITY, pause: float = _PAUSE) -> None:
        self._observers = tuple(observers)
        self._records: deque[CallRecord] = deque(maxlen=capacity)
        self._pause = pause
        self._some = threading.Event()
        self._turn = threading.Lock()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failures: Counter[str] = Counter()
        self.dropped = 0

    def record(self, record: CallRecord) -> None:
        """Queue one record."""
        if not self._observers:
            return
        records = self._records
        if len(records) == records.maxlen:
            self.dropped += 1
        records.append(record)
        if not self._some.is_set():
            self._some.set()

    def readings(self) -> Iterator[Reading]:
        """How the queue stands."""
        yield Reading(OBSERVER_QUEUE, len(self._records))
        yield Reading(OBSERVER_DROPPED, self.dropped)
        for name, count in tuple(self._failures.items()):
            yield Reading(HOOK_FAILURES, count, {OBJECT: name, HOOK: "record", REASON: "error"})

    def start(self) -> None:
        """Start the thread, unless it runs for another user. Blocks while a stop is under way."""
        with self._turn:
            self._users += 1
            if self._observers and self._thread is None:
                self._stopping = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopping,), name="gatewaykit-observers", daemon=True
                )
                self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """For the last user: hand out what is queued, for at most ``timeout`` seconds, and end the thread. Blocks."""
        with self._turn:
            self._users -= 1
            thread = self._thread
            if self._users or thread is None:
                return
            self._stopping.set()
            self._some.set()
            thread.join(timeout)
            if thread.is_alive():
                logger.error("observers did not finish within %g s; %d records are lost", timeout, len(self._records))
            self._thread = None

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._some.wait()
            stopping.wait(self._pause)
            # Cleared before the question above: stop() sets both, and its call to wake up must not be lost.
            self._some.clear()
            self._hand_out()
        self._hand_out()

    def _hand_out(self) -> None:
        batch: list[CallRecord] = []
        with suppress(IndexError):
            while True:
                batch.append(self._records.popleft())
        for observer in self._observers if batch else ():
            for record in batch:
                self._call(observer, observer.record, record)
            self._call(observer, getattr(observer, "flush", None))

    def _call(self, observer: Observer, method: Callable[..., None] | None, *arguments: CallRecord) -> None:
        try:
            if method is not None:
                method(*arguments)
        except Exception as error:
            self._failures[observer.name] += 1
            logger.error("observer %s failed: %s", observer.name, type(error).__name__, exc_info=error)
