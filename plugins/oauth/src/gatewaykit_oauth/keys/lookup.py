"""Looking up keys in one event loop: what is remembered, what is being loaded, and what keeps both true."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from gatewaykit.errors import AuthFailed, GatewayError, Unavailable
from gatewaykit.storage import Storage

from ..settings import KeysSettings
from .cache import KeyCache
from .feed import Feed
from .rows import Entry, Found, recognise, renew_digest
from .secrets import Secrets

_TRIES = 5
logger = logging.getLogger(__name__)


class Lookup:
    """From the text of a key to its :class:`~gatewaykit_oauth.keys.rows.Entry`.

    What is loaded is as new as the number in the feed that was read with it. If the feed has gone beyond that number
    meanwhile, the change that it told of may be one of this key: then the result is not used, but loaded anew.
    """

    def __init__(self, storage: Storage, secrets: Secrets, settings: KeysSettings) -> None:
        self._storage = storage
        self._stale_seconds = settings.stale_seconds
        self._retry_after = settings.poll_seconds
        self._loading: dict[bytes, asyncio.Task[Entry | None]] = {}
        self._renewing: set[asyncio.Task[None]] = set()
        self.secrets = secrets
        self.cache = KeyCache(settings.cache_size, settings.negative_seconds)
        self.feed = Feed(storage, self.cache, settings.poll_seconds)

    def remembered(self, digest: bytes) -> Entry | None:
        """The key of this digest, if it is remembered.

        Raises :class:`~gatewaykit.errors.Unavailable` when nobody knows whether that is still true.
        """
        if time.monotonic() - self.feed.confirmed > self._stale_seconds:
            raise self._unavailable("changes could not be read for too long")
        return self.cache.get(digest)

    async def load(self, text: str, digest: bytes) -> Entry:
        """The key of this text, whose digest is not remembered; those who ask for one at a time load it once.

        Raises :class:`~gatewaykit.errors.AuthFailed` if there is none that may be used, and
        :class:`~gatewaykit.errors.Unavailable`, at once while it is known that the database is down.
        """
        if self.cache.is_unknown(digest):
            raise not_valid()
        if self.feed.down:
            raise self._unavailable("the database is down")
        task = self._loading.get(digest)
        if task is None:
            task = self._loading[digest] = asyncio.create_task(self._load(text, digest), name="gatewaykit-key")
            task.add_done_callback(lambda done: self._loaded(digest, done))
        entry = await asyncio.shield(task)
        if entry is None:
            raise not_valid()
        return entry

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the feed meanwhile."""
        await self.feed.start()
        task = asyncio.create_task(self.feed.run(), name="gatewaykit-key-changes")
        try:
            yield
        finally:
            await ended([task, *self._loading.values(), *self._renewing])

    async def _load(self, text: str, digest: bytes) -> Entry | None:
        digests = self.secrets.digests(text)
        found = Found(0)
        for _ in range(_TRIES):
            found = await self._storage.read(lambda session: recognise(session, digests, datetime.now(UTC)))
            if found.seq >= self.feed.cursor:
                self._remember(digest, found.entry)
                break
        if found.outdated is not None:
            self._renew(found.outdated, digests)
        return found.entry

    def _remember(self, digest: bytes, entry: Entry | None) -> None:
        if entry is None:
            self.cache.put_unknown(digest)
        else:
            self.cache.put(digest, entry)

    def _loaded(self, digest: bytes, task: asyncio.Task[Entry | None]) -> None:
        del self._loading[digest]
        if not task.cancelled():
            task.exception()  # those who asked may all be gone

    def _renew(self, secret_id: int, digests: tuple[bytes, ...]) -> None:
        new, *old = digests
        task = asyncio.create_task(self._write_digest(secret_id, old, new), name="gatewaykit-key-digest")
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _write_digest(self, secret_id: int, old: list[bytes], new: bytes) -> None:
        try:
            pepper = self.secrets.current
            await self._storage.write(lambda session: renew_digest(session, secret_id, old, new, pepper))
        except GatewayError as error:
            logger.warning("a key keeps its old digest until it is loaded again: %s", error)

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(retry_after=self._retry_after, detail=f"API keys: {why}")


def not_valid() -> AuthFailed:
    """The one answer to every key that is not valid, whatever the reason."""
    return AuthFailed("This API key is not valid.")


async def ended(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
