"""Makes a backup when one is due, and tells how old the last one is."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gatewaykit.builtin.backup.settings import BackupSettings
from gatewaykit.errors import BackupError, StorageError
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import BACKUP_FAILURES, BACKUP_INTERVAL, BACKUP_TIME
from gatewaykit.protocols import Readable

if TYPE_CHECKING:
    from gatewaykit.storage import Storage

FIRST = 10.0
"""Seconds after the start until it is looked for the first time."""

AGAIN, AFTER_FAILURE = 60.0, 300.0
_GLANCE = 15.0
_DAY = 24.0
logger = logging.getLogger(__name__)


class Schedule(Readable):
    """All workers look, in turns that need no agreement: who finds that one is due, and the folder free, makes it.

    When the last one was made, the folder itself tells, so that neither a restart nor another worker makes one too
    many, and one that was made by hand counts.
    """

    name = "backup"

    def __init__(self, storage: Storage, settings: BackupSettings, *, first: float | None = None) -> None:
        self._storage = storage
        self._settings = settings
        self._first = FIRST if first is None else first
        self._every = timedelta(hours=settings.every or _DAY)
        self._failures = 0
        self._newest: datetime | None = None
        self._looked = -_GLANCE

    def readings(self) -> Iterator[Reading]:
        """When the last one was made, 0 for never, if any is awaited; and how often one should be."""
        if time.monotonic() - self._looked >= _GLANCE:
            self._look()
        if self._newest is None and not self._settings.every:
            return
        yield Reading(BACKUP_TIME, self._newest.timestamp() if self._newest else 0.0)
        yield Reading(BACKUP_INTERVAL, self._every.total_seconds())
        yield Reading(BACKUP_FAILURES, self._failures)

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._newest = None
        folder = self._settings.folder(self._storage.file)
        if folder.is_dir():
            from gatewaykit.storage.backup import BackupFolder

            with suppress(BackupError):
                self._newest = BackupFolder(folder).newest()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Make them, if the settings say so."""
        if not self._settings.every:
            yield
            return
        leaving, stop = asyncio.Event(), threading.Event()
        task = asyncio.create_task(self._keep(leaving, stop), name="gatewaykit-backup")
        try:
            yield
        finally:
            leaving.set()
            stop.set()
            await task

    async def _keep(self, leaving: asyncio.Event, stop: threading.Event) -> None:
        pause = self._first
        while not leaving.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), pause)
                return
            pause = await asyncio.to_thread(self.turn, stop)

    def turn(self, stop: threading.Event) -> float:
        """Make a backup if one is due; how many seconds later to look again. Blocks."""
        from gatewaykit.storage.backup import Busy

        backups = self._settings.of(self._storage)
        try:
            if (pause := self._pause(backups.folder.newest())) > 0:
                return min(pause, AGAIN)
            with backups.folder.alone():
                if self._pause(backups.folder.newest()) <= 0:
                    made = backups.create_alone(stop)
                    logger.info("made the backup %s, %d bytes", made.path, made.manifest.size)
                    self._prune(backups.folder.prune(datetime.now(UTC), **self._kept))
        except Busy:
            return AGAIN
        except Exception as error:
            if not stop.is_set():
                self._failures += 1
                known = isinstance(error, StorageError)
                logger.error("no backup was made: %s", error, exc_info=None if known else error)
            return AFTER_FAILURE
        self._looked = -_GLANCE
        return AGAIN

    @property
    def _kept(self) -> dict[str, int]:
        return {"keep": self._settings.keep, "keep_days": self._settings.keep_days}

    def _prune(self, gone: list[str]) -> None:
        if gone:
            logger.info("removed old backups: %s", ", ".join(gone))

    def _pause(self, newest: datetime | None) -> float:
        return 0.0 if newest is None else (newest + self._every - datetime.now(UTC)).total_seconds()
