"""One gateway's feed in each event loop in which it runs, and the word to other processes that something changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from gatewaykit.errors import GatewayError, Unavailable

from ..settings import KeysSettings
from .feed import Feed, ended
from .tail import Copy, decoded, encoded

if TYPE_CHECKING:
    from gatewaykit.redislink import RedisLink
    from gatewaykit.storage import Storage

CHANNEL = "keys"
_ASK = b""
logger = logging.getLogger(__name__)


class Changes:
    """What keys and tokens share to hear of changes. It can be used while its lifespan is entered, in that loop."""

    def __init__(self, storage: Storage, settings: KeysSettings, redis: RedisLink | None = None) -> None:
        self._storage = storage
        self._settings = settings
        self._redis = redis
        self._here: dict[asyncio.AbstractEventLoop, Feed] = {}

    async def changed(self, subjects: Sequence[str] | None = None) -> None:
        """Something was committed: forget it here before this returns, and elsewhere as soon as may be.

        ``subjects`` are what it was, should the database not tell any more; everything, if nobody knows.
        """
        feed = self._here.get(asyncio.get_running_loop())
        if feed is None:
            raise Unavailable(retry_after=1.0, detail="the feed of changes: not running")
        known = await feed.poll()
        if not known:
            feed.doubt(subjects)
        await self._tell(encoded(feed.tail) if known else _ASK)

    async def added(self) -> None:
        """Something was committed that nobody can have remembered: others need not wait to read it."""
        await self._tell(_ASK)

    async def _tell(self, message: bytes) -> None:
        if self._redis is not None:
            try:
                await self._redis.publish(CHANNEL, message)
            except GatewayError as error:
                logger.info("others learn of changes by asking: %s", error)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Feed]:
        """Follow changes until the end. Those who enter it while it is entered share one feed."""
        loop = asyncio.get_running_loop()
        known = self._here.get(loop)
        if known is not None:
            yield known
            return
        stale_seconds = self._settings.stale_seconds
        copy = None if self._redis is None else Copy(self._redis, stale_seconds)
        feed = Feed(self._storage, self._settings.poll_seconds, stale_seconds, copy)
        await feed.start()
        async with AsyncExitStack() as stack:
            if self._redis is not None:
                listening = self._redis.listen(CHANNEL, lambda message: _heard(feed, message), feed.nudge)
                await stack.enter_async_context(listening)
            task = asyncio.create_task(feed.run(), name="gatewaykit-changes")
            stack.push_async_callback(ended, [task])
            self._here[loop] = feed
            stack.callback(self._here.pop, loop)
            yield feed


async def ask_all(redis: RedisLink) -> None:
    """Have every gateway read the feed now, for a process that has written to it and does not follow it itself."""
    async with redis.lifespan():
        try:
            await redis.publish(CHANNEL, _ASK)
        except GatewayError as error:
            logger.info("gateways learn of changes by asking: %s", error)


def _heard(feed: Feed, message: bytes) -> None:
    """Doubt what the message tells of at once, whatever the database does; and ask."""
    tail = decoded(message)
    if tail is not None:
        feed.hear(tail)
    feed.nudge()
