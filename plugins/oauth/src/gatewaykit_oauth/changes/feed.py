"""The feed of changes: every process asks for them again and again, and forgets what has changed.

One indexed read each time, from the number of the newest change that is known. That row is asked for, too: where it is
gone, changes may have been forgotten before they were read here, and everything remembered is. A message by Redis only
makes a process ask at once: messages may be lost, rows are not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from gatewaykit.errors import GatewayError
from gatewaykit.storage import Storage

from ..tables import ChangeRow

BATCH = 1000
Change = tuple[int, str]
logger = logging.getLogger(__name__)


class Follower(Protocol):
    """Who remembers something that may change."""

    def evict(self, subject: str) -> None:
        """``subject`` is not as it was."""
        ...

    def clear(self) -> None:
        """Anything may not be as it was."""
        ...


class Feed:
    """Keeps its ``followers`` true. ``cursor`` is the number of the newest change that they reflect; ``down`` says that
    the database did not answer last time; ``confirmed`` when, in monotonic time, it was asked the last time that it
    did. After ``stale_seconds`` without an answer what is remembered is not believed, and the log says so.
    """

    def __init__(self, storage: Storage, poll_seconds: float, stale_seconds: float) -> None:
        self._storage = storage
        self._poll_seconds = poll_seconds
        self._stale_seconds = stale_seconds
        self._told = False
        self.followers: list[Follower] = []
        self._turn = asyncio.Lock()
        self._nudged = asyncio.Event()
        self.cursor = 0
        self.doubts = 0
        self.down = False
        self.confirmed = time.monotonic()

    async def start(self) -> None:
        """Begin at the newest change. Raises :class:`~gatewaykit.errors.Unavailable`."""
        began = time.monotonic()
        self.cursor = await self._storage.read(newest_change)
        self.confirmed = began

    def nudge(self) -> None:
        """Something has changed: ask now."""
        self._nudged.set()

    async def run(self) -> None:
        """Ask for ever, with a pause each time that a nudge ends."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._nudged.wait()
            self._nudged.clear()
            await self.poll()

    async def poll(self) -> bool:
        """Ask once; whether the changes that were committed before are reflected now: the database may not answer."""
        async with self._turn:
            try:
                while await self._step():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better
                if not self.down:
                    logger.error("changes of credentials cannot be read: %s", _named(error))
                self.down = True
                self._tell()
                return False
            if self.down:
                logger.info("changes of credentials can be read again")
            self.down = self._told = False
            return True

    def doubt(self, subjects: Sequence[str] | None) -> None:
        """These have changed, and that cannot be read: what is remembered of them, or being read just now, is not
        believed. Without ``subjects`` that holds of everything.
        """
        self.doubts += 1
        for follower in self.followers:
            if subjects is None:
                follower.clear()
            for subject in subjects or ():
                follower.evict(subject)

    def _tell(self) -> None:
        """Say once that from now on no credential is believed."""
        if not self._told and time.monotonic() - self.confirmed > self._stale_seconds:
            self._told = True
            logger.error("nobody can confirm credentials for %g s: they get 503 now", self._stale_seconds)

    async def _step(self) -> bool:
        """Whether there may be more."""
        began, cursor = time.monotonic(), self.cursor
        changes, newest = await self._storage.read(lambda session: _changes(session, cursor))
        if (changes[0][0] if changes else 0) != cursor:
            for follower in self.followers:
                follower.clear()
        for seq, subject in changes:
            for follower in self.followers if seq > cursor else ():
                follower.evict(subject)
        self.cursor = newest
        if len(changes) == BATCH:
            return True
        self.confirmed = began
        return False


def newest_change(session: Session | Connection) -> int:
    """The feed's newest number; 0 when nothing has ever changed."""
    return session.scalar(select(func.max(ChangeRow.seq))) or 0


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, GatewayError) else type(error).__name__


def _changes(session: Session, cursor: int) -> tuple[Sequence[Change], int]:
    """The change at ``cursor`` and those after it, and the number to go on from."""
    query = select(ChangeRow.seq, ChangeRow.subject).where(ChangeRow.seq >= cursor).order_by(ChangeRow.seq)
    changes = [(seq, subject) for seq, subject in session.execute(query.limit(BATCH))]
    return changes, changes[-1][0] if changes else newest_change(session)
