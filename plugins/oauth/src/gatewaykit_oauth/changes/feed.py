"""The feed of changes: every process asks for them again and again, and forgets what has changed.

One indexed read each time, from the number of the newest change that is known. That row is asked for, too: where it is
gone, changes may have been forgotten before they were read here, and everything remembered is. A message by Redis says
what has changed and makes a process ask at once: messages may be lost, rows are not. Who can ask leaves the end of the
feed in Redis, and who cannot reads it there.
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
from .tail import Change, Copy, Tail

BATCH = 1000
logger = logging.getLogger(__name__)


class Follower(Protocol):
    """Who remembers something that may change."""

    def evict(self, subject: str, seq: int | None, /) -> object:
        """``subject`` is not as it was. Change number ``seq`` tells of it, which what was read at that number or later
        has in it; None if nobody knows the number.
        """
        ...

    def clear(self) -> None:
        """Anything may not be as it was."""
        ...


class Feed:
    """Keeps its ``followers`` true. ``cursor`` is the number of the newest change that they reflect; ``down`` says that
    the database did not answer last time; ``confirmed`` when, in monotonic time, it was asked the last time that it
    did, by this process or by the one that left the ``copy``. After ``stale_seconds`` without either what is
    remembered is not believed, and the log says so. ``tail`` is the end of the feed, as it was read. The events in
    ``asked`` are set each time that the database has answered.
    """

    def __init__(self, storage: Storage, poll_seconds: float, stale_seconds: float, copy: Copy | None = None) -> None:
        self._storage = storage
        self._copy = copy
        self._poll_seconds = poll_seconds
        self._stale_seconds = stale_seconds
        self._told = False
        self.followers: list[Follower] = []
        self.asked: list[asyncio.Event] = []
        self._turn = asyncio.Lock()
        self._nudged = asyncio.Event()
        self.cursor = 0
        self.doubts = 0
        self.down = False
        self.confirmed = time.monotonic()
        self.tail = Tail(0, 0, (), 0.0)

    async def start(self) -> None:
        """Begin at the newest change. Raises :class:`~gatewaykit.errors.Unavailable`."""
        began, read = time.monotonic(), time.time()
        self.cursor = await self._storage.read(newest_change)
        self.confirmed = began
        self.tail = Tail(self.cursor, self.cursor, (), read)

    def hear(self, tail: Tail) -> None:
        """Somebody told the end of the feed: what has changed by it is not believed, whether it can be read or not."""
        changes = tail.since(self.cursor)
        if changes is None or changes:
            self.doubts += 1
            self._forget(changes)

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
                await self._read_copy()
                self._tell()
                return False
            if self.down:
                logger.info("changes of credentials can be read again")
            self.down = self._told = False
            await self._leave_copy()
            for event in self.asked:
                event.set()
            return True

    def doubt(self, subjects: Sequence[str] | None) -> None:
        """These have changed, and that cannot be read: what is remembered of them, or being read just now, is not
        believed. Without ``subjects`` that holds of everything.
        """
        self.doubts += 1
        self._forget(None if subjects is None else [(None, subject) for subject in subjects])

    def _tell(self) -> None:
        """Say once that from now on no credential is believed."""
        if not self._told and time.monotonic() - self.confirmed > self._stale_seconds:
            self._told = True
            logger.error("nobody can confirm credentials for %g s: they get 503 now", self._stale_seconds)

    async def _step(self) -> bool:
        """Whether there may be more."""
        began, read, cursor = time.monotonic(), time.time(), self.cursor
        changes, newest = await self._storage.read(lambda session: _changes(session, cursor))
        if (changes[0][0] if changes else 0) == cursor:
            self.tail = self.tail.followed_by(tuple(changes[1:]), newest, read)
        else:
            self.tail = Tail(newest, newest, (), read)
            self._forget(None)
        self._forget([change for change in changes if change[0] > cursor])
        self.cursor = newest
        if len(changes) == BATCH:
            return True
        self.confirmed = began
        return False

    async def _leave_copy(self) -> None:
        """For those who cannot read the database. Where Redis does not answer, its link says so."""
        if self._copy is not None:
            with suppress(GatewayError):
                await self._copy.put(self.tail)

    async def _read_copy(self) -> None:
        """What somebody could read who left it in Redis. A late one tells nothing new, and changes nothing."""
        tail = None if self._copy is None else await self._copy.get()
        if tail is None or tail.newest < self.cursor:
            return
        self._forget(tail.since(self.cursor))
        self.cursor, self.tail = tail.newest, tail
        self.confirmed = max(self.confirmed, time.monotonic() - max(0.0, time.time() - tail.read))

    def _forget(self, changes: Sequence[tuple[int | None, str]] | None) -> None:
        """What is remembered of them; of everything, if nobody knows of what."""
        for follower in self.followers:
            if changes is None:
                follower.clear()
            for seq, subject in changes or ():
                follower.evict(subject, seq)


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
