"""Keeps the record of every call in the database: who, what, when, how long, how many tokens; never what was said."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatewaykit.errors import GatewayError, Unavailable
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Observer
from gatewaykit.types import CallRecord

if TYPE_CHECKING:
    from gatewaykit.storage import Storage

logger = logging.getLogger(__name__)
CAPACITY = 10_000
"""Records that are kept in memory while the database does not take them; beyond, the oldest are lost."""

_LONGEST = 256
_LARGEST = 2**63 - 1
_REFUSED = (GatewayError, ValueError, OverflowError)  # the driver's last two: it cannot even encode the row
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class CallRecords(Observer):
    """Writes records in batches, one transaction each.

    What the database does not take now is kept and tried again, after a pause that doubles. A record is known by its
    request id and its time, for clients may choose the id: writing it twice makes one row, and no client can hide a
    call behind the id of another.
    """

    name = "call-records"

    def __init__(self, storage: Storage, *, capacity: int = CAPACITY) -> None:
        self._storage = storage
        self._rows: deque[dict[str, Any]] = deque(maxlen=capacity)
        self._turn = threading.Lock()
        self._pause = 0.0
        self._next_try = 0.0
        self._users = 0
        self._closing = False
        self._told = 0
        self.lost = 0

    def record(self, record: CallRecord) -> None:
        """Put the record into the batch."""
        with self._turn:
            if len(self._rows) == self._rows.maxlen:
                self.lost += 1
            self._rows.append(as_row(record))

    def flush(self) -> None:
        """Write the batch, unless the database is given a rest after a failure."""
        with self._turn:
            if self._rows and (self._closing or time.monotonic() >= self._next_try):
                self._write()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """From its end on nothing rests any more: what is kept gets its last chance."""
        self._users += 1
        self._closing = False
        try:
            yield
        finally:
            self._users -= 1
            self._closing = self._users == 0
            await asyncio.to_thread(self.flush)

    def _write(self) -> None:
        try:
            self._write_batch()
        except Unavailable as error:
            self._pause = min(max(_FIRST_PAUSE, self._pause * 2), _LONGEST_PAUSE)
            self._next_try = time.monotonic() + self._pause
            logger.warning("%d records of calls are not written yet: %s", len(self._rows), error)
            return
        if self.lost > self._told:
            logger.error("%d records of calls were lost", self.lost - self._told)
        self._pause, self._next_try, self._told = 0.0, 0.0, self.lost

    def _write_batch(self) -> None:
        try:
            _insert(self._storage, list(self._rows))
            self._rows.clear()
        except Unavailable:
            raise
        except _REFUSED as error:
            logger.error("a batch of records of calls was refused: %s", error)
            self._write_singly()

    def _write_singly(self) -> None:
        """One row that the database will never take must not hold up the others."""
        while self._rows:
            try:
                _insert(self._storage, [self._rows[0]])
            except Unavailable:
                raise
            except _REFUSED:
                self.lost += 1
            self._rows.popleft()


def as_row(record: CallRecord) -> dict[str, Any]:
    """The columns of ``call_records``; texts that clients chose are cut, and freed of what a database refuses."""
    target, usage = record.target, record.usage
    return {
        "request_id": _text(record.request_id),
        "began": datetime.fromtimestamp(record.began, UTC),
        "method": record.method,
        "path": _text(record.path),
        "dialect": record.dialect,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "client": _text(record.client),
        "principal": _text(record.principal),
        "tenant": _text(record.tenant),
        "model": _text(record.model),
        "stream": record.stream,
        "provider": target.provider if target else None,
        "provider_model": _text(target.model) if target else None,
        "attempts": [
            {"target": _text(str(attempt.target)), "seconds": attempt.seconds, "error": attempt.error}
            for attempt in record.attempts
        ],
        "seconds": record.seconds,
        "first_event_seconds": record.first_event_seconds,
        "input_tokens": _count(usage.input_tokens) if usage else None,
        "output_tokens": _count(usage.output_tokens) if usage else None,
        "cached_tokens": _count(usage.cached_tokens) if usage else None,
        "reasoning_tokens": _count(usage.reasoning_tokens) if usage else None,
        "estimated": usage.estimated if usage else None,
    }


def _insert(storage: Storage, rows: Sequence[dict[str, Any]]) -> None:
    from gatewaykit.storage import StoredCall, insert_new

    with storage.transaction() as session:
        insert_new(session, StoredCall, rows)


def _text(text: str | None) -> str | None:
    """No NUL, which Postgres refuses, and no half of a surrogate pair, which nobody can encode."""
    if text is None or (text.isascii() and len(text) <= _LONGEST and "\0" not in text):
        return text
    return text[:_LONGEST].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _count(number: int) -> int:
    return min(max(number, 0), _LARGEST)


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The keeper of records, where there is a database."""
    return [] if gateway.storage is None else [CallRecords(gateway.storage)]
