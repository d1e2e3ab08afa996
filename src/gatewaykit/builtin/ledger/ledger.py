"""The ledger as the gateway sees it: an observer that may not lose a record."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from gatewaykit.builtin.ledger.books import Books
from gatewaykit.builtin.ledger.outbox import Outbox
from gatewaykit.builtin.ledger.retention import Retention
from gatewaykit.builtin.ledger.rows import encode
from gatewaykit.builtin.ledger.segments import Unlockable, frame
from gatewaykit.builtin.ledger.settings import LedgerSettings
from gatewaykit.builtin.ledger.writer import Writer
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import LEDGER_FAILURES, LEDGER_WRITTEN, OUTBOX_AGE, OUTBOX_DEPTH, OUTBOX_SIZE, REASON
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import Observer
from gatewaykit.storage.identity import identity
from gatewaykit.types import CallRecord

if TYPE_CHECKING:
    from gatewaykit.storage import Storage

logger = logging.getLogger(__name__)
_PATIENCE = 10.0
"""Seconds for which a start waits until what was found in the outbox is in the database."""


class Ledger(Observer):
    """Keeps one record of each call: in the outbox before the client has its last byte, in the database soon after.

    It holds nothing open until it is entered or seals a record, and nothing of it passes into a forked process.
    """

    name = "ledger"

    def __init__(self, storage: Storage, settings: LedgerSettings, prices: PriceBook) -> None:
        self._storage = storage
        self._settings = settings
        self._version = prices.version or None
        self.outbox = Outbox(settings.folder(storage.file), _prefix(storage))
        self.books = Books(storage, prices)
        self._reset()
        _everyone.add(self)

    def _reset(self) -> None:
        self._turn = threading.Lock()
        self._users = 0
        self.retention = Retention(self._storage, self._settings)
        self._settled = self._storage.settled = threading.Event()
        self._settled.set()
        self.writer = Writer(
            self.outbox,
            self.books,
            self.retention,
            identity=self._identity,
            settled=self._settled,
            left=self._close,
        )

    def seal(self, record: CallRecord) -> None:
        """Put the record into the outbox."""
        self.outbox.append(frame(encode(record, self._version)))
        writer = self.writer
        if not writer.awake():
            writer.wake()

    def readings(self) -> Iterator[Reading]:
        """What waits in the outbox, what was written, and what went wrong."""
        outbox, writer = self.outbox, self.writer
        yield Reading(OUTBOX_DEPTH, outbox.depth)
        yield Reading(OUTBOX_SIZE, outbox.depth_bytes)
        yield Reading(OUTBOX_AGE, outbox.oldest_age)
        yield Reading(LEDGER_WRITTEN, writer.written)
        failures = {"lost": outbox.lost, "unsafe": outbox.refused, "corrupt": writer.corrupt}
        failures |= {"refused": writer.refused, "database": writer.failures}
        for reason, count in failures.items():
            yield Reading(LEDGER_FAILURES, count, {REASON: reason})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Until its end records are written. Those that waited are written before it begins, if that can be done soon.

        Raises :class:`~gatewaykit.errors.ConfigError` when there is no outbox.
        """
        await asyncio.to_thread(self._enter)
        try:
            if not await asyncio.to_thread(self._settled.wait, _PATIENCE):
                text = "%d records of before are not written yet; no budget begins until they are"
                logger.warning(text, self.outbox.depth)
            yield
        finally:
            await asyncio.to_thread(self._leave)

    def _enter(self) -> None:
        with self._turn:
            if not self._users:
                self._open()
            self._users += 1

    def _open(self) -> None:
        try:
            self.outbox.open()
        except OSError as error:
            what = "locked files" if isinstance(error, Unlockable) else "files"
            message = f"{self.outbox.folder} takes no {what}: {error.strerror or error}"
            raise ConfigError([ConfigFault(message, "ledger.outbox")]) from None
        self._settled.clear()
        self.writer.start()

    def _leave(self) -> None:
        with self._turn:
            self._users -= 1
            if not self._users:
                if self.writer.stop():
                    self.outbox.close()
                self._settled.set()

    def _close(self) -> None:
        """The writer was left behind and has ended: what it did not write is for others, unless it is ours again."""
        with self._turn:
            if not self._users:
                self.outbox.close()

    def _identity(self) -> str:
        with self._storage.transaction(write=False) as session:
            return identity(session)

    def forget(self) -> None:
        """In a child process: all of this is the parent's."""
        self.outbox.forget()
        self._reset()


def _prefix(storage: Storage) -> str:
    """Of files that are begun before the database has said who it is: all of its address counts, but no password."""
    address = storage.database.url.difference_update_query(["password"]).render_as_string(hide_password=True)
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _forget() -> None:
    for ledger in tuple(_everyone):
        ledger.forget()


_everyone: WeakSet[Ledger] = WeakSet()
os.register_at_fork(after_in_child=_forget)
