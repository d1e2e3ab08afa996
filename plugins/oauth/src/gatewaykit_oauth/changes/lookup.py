"""Looking up credentials in one event loop: what is remembered, what is being loaded, and whether it is believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from gatewaykit.errors import AuthFailed, Unavailable

from ..settings import KeysSettings
from .cache import Cache, EntryT
from .feed import Feed, ended

_TRIES = 5
EntryT_co = TypeVar("EntryT_co", covariant=True)


class Found(Protocol[EntryT_co]):
    """What the database knows of a credential, at the feed's number ``seq`` or later; no ``entry`` is a refusal."""

    @property
    def seq(self) -> int:
        """The feed's newest number, read before the rest."""
        ...

    @property
    def entry(self) -> EntryT_co | None:
        """What is to be remembered."""
        ...


FoundT = TypeVar("FoundT", bound=Found[Any])


class Lookup(Generic[EntryT]):
    """From a digest to what it stands for. ``what`` names such credentials in the log; ``unconfirmed`` counts those of
    which nobody could say whether they are good.

    What is loaded is as new as the number in the feed that was read with it. If the feed has gone beyond that number
    meanwhile, the change that it told of may be one of this credential: then the result is not used, but loaded anew.
    """

    what = "credentials"

    def __init__(self, feed: Feed, settings: KeysSettings) -> None:
        self._stale_seconds = settings.stale_seconds
        self._retry_after = settings.poll_seconds
        self._loading: dict[bytes, asyncio.Task[EntryT | None]] = {}
        self.cache: Cache[EntryT] = Cache(settings.cache_size, settings.negative_seconds)
        self.feed = feed
        self.unconfirmed = 0
        feed.followers.append(self.cache)

    def refusal(self) -> AuthFailed:
        """The one answer to every credential that is not valid, whatever the reason."""
        return AuthFailed()

    def remembered(self, digest: bytes) -> EntryT | None:
        """What this digest stands for, if it is remembered.

        Raises :class:`~gatewaykit.errors.Unavailable` when nobody knows whether that is still true.
        """
        if time.monotonic() - self.feed.confirmed > self._stale_seconds:
            raise self._unavailable("changes could not be read for too long")
        return self.cache.get(digest)

    async def loaded(self, digest: bytes, load: Callable[[], Coroutine[Any, Any, EntryT | None]]) -> EntryT:
        """What ``load`` finds, for a digest that is not remembered; those who ask for one at a time load it once.

        Raises :meth:`refusal` if it finds nothing, and :class:`~gatewaykit.errors.Unavailable`, at once while it is
        known that the database is down.
        """
        if self.cache.is_unknown(digest):
            raise self.refusal()
        if self.feed.down:
            raise self._unavailable("the database is down")
        try:
            entry = await asyncio.shield(self._loaded(digest, load))
        except (Unavailable, asyncio.CancelledError):  # cancelled: it took too long
            self.unconfirmed += 1
            raise
        if entry is None:
            raise self.refusal()
        return entry

    def foresee(self, digest: bytes, load: Callable[[], Coroutine[Any, Any, EntryT | None]]) -> None:
        """Begin to load what will be asked for soon; whoever asks meanwhile waits for this."""
        if not self.feed.down:
            self._loaded(digest, load)

    async def find(self, digest: bytes, read: Callable[[], Awaitable[FoundT]]) -> FoundT:
        """What ``read`` finds in the database, remembered if nothing has changed meanwhile."""
        tries = 0
        while True:
            doubts = self.feed.doubts
            found = await read()
            tries += 1
            if found.seq >= self.feed.cursor and doubts == self.feed.doubts:
                if found.entry is None:
                    self.cache.put_unknown(digest)
                else:
                    self.cache.put(digest, found.entry, found.seq)
                return found
            if tries == _TRIES:
                return found

    async def stop(self) -> None:
        """End what is under way."""
        self.feed.followers.remove(self.cache)
        await ended([*self._loading.values()])

    def _loaded(
        self, digest: bytes, load: Callable[[], Coroutine[Any, Any, EntryT | None]]
    ) -> asyncio.Task[EntryT | None]:
        task = self._loading.get(digest)
        if task is None or task.done():  # what one that is done has found may have changed since
            task = self._loading[digest] = asyncio.create_task(load(), name="gatewaykit-credential")
            task.add_done_callback(lambda done: self._done(digest, done))
        return task

    def _done(self, digest: bytes, task: asyncio.Task[EntryT | None]) -> None:
        if self._loading.get(digest) is task:
            del self._loading[digest]
        if not task.cancelled():
            task.exception()  # those who asked may all be gone

    def _unavailable(self, why: str) -> Unavailable:
        self.unconfirmed += 1
        return Unavailable(retry_after=self._retry_after, detail=f"{self.what}: {why}")
