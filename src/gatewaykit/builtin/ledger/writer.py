"""The thread that brings records from the outbox into the database."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from gatewaykit.builtin.ledger.books import Books
from gatewaykit.builtin.ledger.outbox import Batch, Outbox
from gatewaykit.builtin.ledger.retention import Retention
from gatewaykit.builtin.ledger.rows import Entry, decode
from gatewaykit.builtin.ledger.segments import unframe
from gatewaykit.errors import GatewayError, Unavailable

logger = logging.getLogger(__name__)
_GATHER, _SOON = 0.5, 0.05
_SYNC, _LOOK = 1.0, 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_PATIENCE = 10.0
_HELD_UP = 600.0
"""Seconds for which a backlog keeps budgets from beginning, once the database answers: what it never takes must not do
so for ever.
"""


class Writer:
    """Writes what is in the outbox, in batches; what the database does not take now is tried again after a pause.

    ``identity`` asks the database who it is. ``settled`` is set by its thread once the database has what waited in the
    outbox when the writer was started. ``left`` is called by its thread if that ends after nobody waited for it any
    longer.

    Counters: ``written`` records; ``corrupt`` lines that were not what had been written; ``refused`` records that the
    database will never take, ``failures`` of the database.
    """

    def __init__(
        self,
        outbox: Outbox,
        books: Books,
        retention: Retention,
        *,
        identity: Callable[[], str],
        settled: threading.Event,
        left: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._books = books
        self._retention = retention
        self._identity = identity
        self._settled = settled
        self._left = left
        self._identified: float | None = None
        self._some = threading.Event()
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._parting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pause = 0.0
        self._next_try = self._next_sync = self._next_adoption = self._next_measure = 0.0
        self._adopted = 0
        self.wake = self._some.set
        self.awake = self._some.is_set
        self.written = self.corrupt = self.refused = self.failures = 0

    def start(self) -> None:
        """Start the thread."""
        self._stopping, self._parting = threading.Event(), threading.Lock()
        self._identified = None
        self._next_try, self._next_measure = 0.0, time.monotonic() + _LOOK
        given = (self._stopping, self._parting)
        self._thread = threading.Thread(target=self._run, args=given, name="gatewaykit-ledger", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Write what is there, as far as the database takes it, and end the thread; whether it has ended. Blocks."""
        self._stopping.set()
        self._some.set()
        if self._thread is None:
            return True
        self._thread.join(_PATIENCE)
        if self._parting.acquire(blocking=False):
            logger.error("the database holds up the ledger; what is not written waits in the outbox")
            return False
        self._thread.join()
        return True

    def _run(self, stopping: threading.Event, parting: threading.Lock) -> None:
        self._guarded_turn()
        while not stopping.is_set():
            if self._settled.is_set():
                self._some.wait(_SYNC)
            stopping.wait(_GATHER if self._settled.is_set() else _SOON)
            self._some.clear()
            self._guarded_turn()
        self.flush()
        if not parting.acquire(blocking=False):
            self._left()

    def flush(self) -> None:
        """All that is there, without a rest."""
        self._next_try = self._next_sync = 0.0
        self._guarded_turn()

    def _guarded_turn(self) -> None:
        """Whatever goes wrong, the thread goes on. One that could not be stopped in time has its turn alone, too."""
        with self._turn:
            try:
                self.turn()
            except Exception as error:
                logger.error("the ledger failed: %s", type(error).__name__, exc_info=error)
                self._rest()

    def turn(self) -> None:
        """All that is due."""
        self._keep_up()
        if time.monotonic() >= self._next_try:
            self._write()
        self._outbox.rotate()
        if self._identified is not None and not self._settled.is_set():
            self._look_at_backlog(time.monotonic() - self._identified)
        if time.monotonic() >= self._next_measure:
            self._next_measure = time.monotonic() + _LOOK
            self._outbox.measure()
        if self._retention.due and not self._pause:
            self._delete()

    def _look_at_backlog(self, seconds: float) -> None:
        """Whether budgets can begin, so many ``seconds`` after the database has answered first."""
        if self._outbox.settled:
            self._settled.set()
        elif seconds > _HELD_UP:
            text = "%d records of before are not taken by the database: budgets begin without them"
            logger.error(text, self._outbox.depth)
            self._settled.set()

    def _keep_up(self) -> None:
        """What is due once a second, however much there is to write."""
        now = time.monotonic()
        if now < self._next_sync:
            return
        self._next_sync = now + _SYNC
        self._outbox.rotate()
        self._outbox.report()
        try:
            self._outbox.sync()
        except OSError as error:
            logger.error("the outbox is not safe from a loss of power: %s", error.strerror or error)

    def _write(self) -> None:
        """Write all there is. Where the database is away, the log says so once, and once that it is back."""
        try:
            if self._identified is None:
                self._outbox.identify(self._identity())
                self._identified = time.monotonic()
            self._books.open()
            for batch in self._batches():
                self._try_batch(batch)
        except Unavailable as error:
            self.failures += 1
            if not self._pause:
                logger.warning("%d records of calls are not written yet: %s", self._outbox.depth, error)
            self._rest()
            return
        if self._pause:
            logger.info("the records of calls are written")
        self._pause, self._next_try = 0.0, 0.0

    def _batches(self) -> Iterator[Batch]:
        """What waits here, and what ended processes have left, until there is no more."""
        while True:
            self._adopt()
            batch = self._outbox.batch()
            if batch is None:
                return
            yield batch
            self._keep_up()

    def _adopt(self) -> None:
        """Nobody begins with others' files who is about to end."""
        now = time.monotonic()
        if self._stopping.is_set() or (self._outbox.swept and now < self._next_adoption):
            return
        self._adopted += self._outbox.adopt()
        if self._outbox.swept:
            self._next_adoption = now + _LOOK
            if self._adopted:
                logger.info("%d records that ended processes left were in the outbox", self._adopted)
            self._adopted = 0

    def _try_batch(self, batch: Batch) -> None:
        try:
            self._write_batch(batch)
        except BaseException:
            self._outbox.put_back(batch)
            raise
        self._outbox.done(batch)

    def _rest(self) -> None:
        self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
        self._next_try = time.monotonic() + self._pause

    def _write_batch(self, batch: Batch) -> None:
        entries = self._entries(batch)
        try:
            self.written += self._books.write(entries) if entries else 0
        except Unavailable:
            raise
        except GatewayError as error:
            logger.error("the database refuses a batch of records of calls: %s", error)
            self._write_singly(batch, entries)

    def _write_singly(self, batch: Batch, entries: list[Entry]) -> None:
        """One record that the database will never take must not hold up the others. If it takes none of many, it is
        not for their sake.
        """
        refused = 0
        for entry in entries:
            try:
                self.written += self._books.write([entry])
            except Unavailable:
                raise
            except GatewayError as error:
                logger.error("the record of the call %s is refused: %s", entry.request_id, error)
                refused += 1
        if refused == len(entries) > 1:
            raise Unavailable(detail="database: it refuses all records")
        self.refused += refused
        if refused and batch.segment is not None:
            batch.segment.damaged = True

    def _entries(self, batch: Batch) -> list[Entry]:
        entries: list[Entry] = []
        for line in batch.lines:
            document = unframe(line)
            try:
                if document is not None:
                    entries.append(decode(document))
                    continue
            except msgspec.MsgspecError:
                pass
            self._count_corrupt(batch)
        return entries

    def _count_corrupt(self, batch: Batch) -> None:
        self.corrupt += 1
        if batch.segment is not None:
            batch.segment.damaged = True
            logger.error("a line of %s is damaged and passed over; the file is kept", batch.segment.path)

    def _delete(self) -> None:
        try:
            if self._retention.step():
                self._some.set()
        except GatewayError as error:
            logger.warning("what is old is not deleted: %s", error)
            self._retention.rest()
