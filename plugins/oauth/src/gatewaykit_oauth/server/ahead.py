"""Tokens that will be asked for: what the database says of each, read before its bearer comes.

So the first call with a token that another process issued, or this one before its start, costs the signature. What is
read ahead is kept true by the feed of changes, like all that is remembered. It is a help and no promise: a token that
is not here is looked up, and only what the database says lets anybody in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gatewaykit.errors import GatewayError
from gatewaykit.storage import Storage

from ..changes.cache import Cache
from ..changes.feed import Feed
from .recognising import Facts, facts_of, newest_tokens

AT_ONCE = 100
LATE = timedelta(seconds=1)
"""How much later than others a token may be committed that was issued before them, and still be noticed."""

_PAUSE = 0.05
"""Seconds after a look: tokens that are issued quickly one after the other are read together."""

_EVER = datetime.fromtimestamp(0, UTC)
_TRIES = 5
logger = logging.getLogger(__name__)


class Ahead:
    """Holds the facts of tokens that were not used here yet: of the newest ``size``, from the start on and after each
    time that the feed was asked. It follows the feed.
    """

    def __init__(self, storage: Storage, feed: Feed, size: int) -> None:
        self._storage = storage
        self._feed = feed
        self._size = size
        self._facts: Cache[Facts] = Cache(size, 0.0)
        self._since = _EVER
        self._listed: frozenset[str] = frozenset()
        self._again: set[str] = set()
        self._cleared = 0
        self._due = asyncio.Event()
        self._due.set()

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, jti: str) -> Facts | None:
        """What is known of this token; it stays until :meth:`used`."""
        return self._facts.get(jti.encode())

    def used(self, jti: str) -> None:
        """The token is remembered as one that was seen from now on."""
        self._facts.forget(jti.encode())

    async def run(self) -> None:
        """Read ahead for ever, if anything. While the database does not answer, nothing new comes."""
        if not self._size:
            return
        self._feed.asked.append(self._due)
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                try:
                    await self._read_new()
                except GatewayError as error:
                    logger.debug("access tokens are not read ahead: %s", error)
                await asyncio.sleep(_PAUSE)
        finally:
            self._feed.asked.remove(self._due)

    def evict(self, subject: str, seq: int | None) -> None:
        """What depends on ``subject`` is not as it was: it is read once more, if it was read before change ``seq``."""
        forgotten = self._facts.evict(subject, seq)
        if forgotten:
            self._again.update(digest.decode() for digest in forgotten)
            self._due.set()

    def clear(self) -> None:
        """Nothing is known any more: begin anew."""
        self._facts.clear()
        self._again.clear()
        self._since, self._listed = _EVER, frozenset()
        self._cleared += 1

    async def _read_new(self) -> None:
        since, cleared, now = self._since, self._cleared, datetime.now(UTC)
        listed = await self._storage.query(lambda connection: newest_tokens(connection, since, now, self._size))
        if cleared != self._cleared:
            return
        new = [*self._again, *(jti for jti, _ in listed if jti not in self._listed)]
        self._again.clear()
        if listed:
            self._since, self._listed = listed[-1][1] - LATE, frozenset(jti for jti, _ in listed)
        for first in range(0, len(new), AT_ONCE):
            await self._read(new[first : first + AT_ONCE])
            if cleared != self._cleared:
                return

    async def _read(self, jtis: Sequence[str]) -> None:
        """Hold what the database says of these; if it changes each time meanwhile, that is for the next look."""
        for _ in range(_TRIES):
            doubts = self._feed.doubts
            found = await self._storage.query(lambda connection: facts_of(connection, jtis))
            if doubts == self._feed.doubts and all(facts.seq >= self._feed.cursor for facts in found):
                for facts in found:
                    if not facts.ended_early:
                        self._facts.put(facts.jti.encode(), facts, facts.seq)
                return
        self._again.update(jtis)
