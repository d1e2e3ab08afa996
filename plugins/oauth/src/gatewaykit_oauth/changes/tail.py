"""The end of the feed as one process knows it, and its copy in Redis for those who cannot read the database.

The copy is no second truth: a reader never goes back by it, forgets everything where it does not join on to what the
reader knows, and believes it only as of the moment at which its writer asked the database.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from gatewaykit.errors import GatewayError

if TYPE_CHECKING:
    from gatewaykit.redislink import RedisLink

LONGEST = 100
NAME = "changes"
Change = tuple[int, str]


class Tail(msgspec.Struct, frozen=True, array_like=True):
    """All changes after number ``after``, up to the feed's ``newest``, as they stood at ``read`` (unix time)."""

    after: int
    newest: int
    changes: tuple[Change, ...]
    read: float

    def since(self, cursor: int) -> tuple[Change, ...] | None:
        """The changes after ``cursor``; None if there may be some that this does not tell of."""
        if self.after > cursor:
            return None
        return tuple(change for change in self.changes if change[0] > cursor)

    def followed_by(self, changes: tuple[Change, ...], newest: int, read: float) -> Tail:
        """The tail after these changes too, no longer than it may be."""
        kept = (*self.changes, *changes)
        dropped, kept = kept[:-LONGEST], kept[-LONGEST:]
        return Tail(dropped[-1][0] if dropped else self.after, newest, kept, read)


class Copy:
    """The tail in Redis. It is gone after ``seconds``, when nobody who can read the database has renewed it."""

    def __init__(self, redis: RedisLink, seconds: float) -> None:
        self._redis = redis
        self._seconds = seconds

    async def put(self, tail: Tail) -> None:
        """Leave it there. Raises :class:`~gatewaykit.errors.Unavailable`."""
        await self._redis.put(NAME, encoded(tail), self._seconds)

    async def get(self) -> Tail | None:
        """What was left there last; None if that is too long ago, or Redis does not answer."""
        try:
            found = await self._redis.get(NAME)
        except GatewayError:
            return None
        tail = None if found is None else decoded(found)
        return tail if tail is not None and time.time() - tail.read <= self._seconds else None


def encoded(tail: Tail) -> bytes:
    """As it goes through Redis."""
    return msgspec.json.encode(tail)


def decoded(text: bytes) -> Tail | None:
    """A tail that came through Redis; None for anything else."""
    try:
        return msgspec.json.decode(text, type=Tail)
    except (ValueError, RecursionError):
        return None
