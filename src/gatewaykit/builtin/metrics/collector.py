"""The observer that counts: a request appends its record, and a thread does the rest."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gatewaykit.builtin.metrics.measures import Measures
from gatewaykit.builtin.metrics.series import ReadingBook, SeriesBook
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import CPU_TIME, LOOP_LAG, MEMORY, OBSERVER_DROPPED, SERIES_FOLDED, WORKERS
from gatewaykit.metrics.totals import Report
from gatewaykit.protocols import Observer
from gatewaykit.types import CallRecord, RouteRecord

CAPACITY = 20_000
"""Records that may wait for the thread, which comes every second; what comes on top is counted as dropped."""

PATH = "/metrics"
_TICK = 0.25
_WINDOW = 15.0
_PAGE = resource.getpagesize()
_STATM = Path("/proc/self/statm")


class Collector(Observer):
    """Records wait for :meth:`report`, which the tally's thread calls. Records are taken when they are sealed: a client
    that has its whole answer finds itself counted.
    """

    name = "metrics"

    def __init__(
        self, measures: Measures, book: SeriesBook, readings: Callable[[], Iterable[Reading]], most: int
    ) -> None:
        self._measures = measures
        self._book = book
        self._readings = readings
        self._reading_book = ReadingBook(most)
        self._records: deque[CallRecord | RouteRecord] = deque()
        self._append = self._records.append
        self._lag = LoopLag()
        self._dropped = 0

    def seal(self, record: CallRecord) -> None:
        """Take one."""
        self._append(record) if len(self._records) < CAPACITY else self._drop()

    def routed(self, record: RouteRecord) -> None:
        """Take one. A scrape does not count itself."""
        if record.route != PATH:
            self._append(record) if len(self._records) < CAPACITY else self._drop()

    def _drop(self) -> None:
        self._dropped += 1

    def report(self) -> Report:
        """All that is new in this process."""
        records, calls = self._records, list[CallRecord]()
        with suppress(IndexError):
            while True:
                record = records.popleft()
                calls.append(record) if isinstance(record, CallRecord) else self._measures.route(record)
        self._measures.calls(calls)
        counted, read = self._book.take(), self._reading_book.report(self._readings())
        return Report([*counted.metrics, *read.metrics], counted.counts + read.counts, read.gauges)

    def readings(self) -> Iterator[Reading]:
        """How this process is."""
        yield Reading(WORKERS, 1)
        yield Reading(OBSERVER_DROPPED, self._dropped)
        yield Reading(SERIES_FOLDED, self._book.folded)
        yield Reading(LOOP_LAG, self._lag.longest())
        yield Reading(CPU_TIME, sum(os.times()[:2]))
        with suppress(OSError, ValueError, IndexError):
            yield Reading(MEMORY, int(_STATM.read_text().split()[1]) * _PAGE)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Watch how late the event loop is."""
        watching = asyncio.create_task(self._lag.watch(), name="gatewaykit-loop-lag")
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


class LoopLag:
    """How late event loops came to what was due, in the last seconds: the longest."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=int(_WINDOW / _TICK) * 4)

    async def watch(self) -> None:
        """Measure in this event loop, for ever."""
        while True:
            due = time.monotonic() + _TICK
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self._late.append((now, max(0.0, now - due)))

    def longest(self) -> float:
        """Seconds."""
        since = time.monotonic() - _WINDOW
        return max((late for when, late in tuple(self._late) if when >= since), default=0.0)
