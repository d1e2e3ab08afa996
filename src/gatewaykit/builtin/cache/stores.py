"""Where answers are kept: this process's memory, or Redis."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from gatewaykit.errors import Unavailable
from gatewaykit.redislink import RedisLink, Script

logger = logging.getLogger(__name__)
_GET = Script("return redis.call('GET', KEYS[1])")
_PUT = Script("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])")
_BESIDE = 320
"""Bytes of memory that an entry takes beside its key and value."""


class Store(Protocol):
    """Keeps bytes by key for some time. It may forget earlier, and never raises: a cache that fails is empty.

    ``instant`` says that it does not wait for anything.
    """

    instant: bool

    async def get(self, key: str) -> bytes | None:
        """What was put there, if it is still kept."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Keep ``value``."""
        ...


class MemoryStore(Store):
    """At most ``max_bytes``, each entry for ``ttl`` seconds; what was not used for longest is forgotten first."""

    instant = True

    def __init__(self, ttl: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._size = 0

    async def get(self, key: str) -> bytes | None:
        """The entry, unless its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry[0]:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[1]

    async def put(self, key: str, value: bytes) -> None:
        """Keep it, in the place of the least used."""
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (self._clock() + self._ttl, value)
        self._size += len(key) + len(value) + _BESIDE
        while self._size > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        _, value = self._entries.pop(key)
        self._size -= len(key) + len(value) + _BESIDE


class RedisStore(Store):
    """Shared by all processes; Redis ends entries itself."""

    instant = False

    def __init__(self, link: RedisLink, ttl: float) -> None:
        self._link = link
        self._milliseconds = max(1, round(ttl * 1000))

    async def get(self, key: str) -> bytes | None:
        """The entry; none while Redis is away."""
        try:
            found = await self._link.run(_GET, [self._key(key)], [])
        except Unavailable as error:
            logger.debug("the cache cannot be read: %s", error)
            return None
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        """Keep it; nothing happens while Redis is away."""
        try:
            await self._link.run(_PUT, [self._key(key)], [value, self._milliseconds])
        except Unavailable as error:
            logger.debug("the cache cannot be written: %s", error)

    def _key(self, key: str) -> str:
        return f"{self._link.prefix}cache/{key}"
