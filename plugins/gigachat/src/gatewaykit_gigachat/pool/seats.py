"""What a call asks of the pool, and what it gets: a place at one credential until its answer is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gatewaykit.errors import ProviderBusy

if TYPE_CHECKING:
    from .member import Member


class PoolBusy(ProviderBusy):
    """All places are taken, and the queue is full or did not move in time. Trying here again would lengthen it."""

    retryable = False
    default_message = "All of the model provider's places are taken, and the queue is full. Try again later."


class Ask(msgspec.Struct, eq=False):
    """One call on its way through the pool: for whom, for which model, and which members it has tried.

    ``only`` are the members that have the files it names; ``None`` for all.
    ``position`` and ``waited`` (seconds) say how it fared in the queue; both are 0 if it did not have to wait.
    """

    key: str
    model: str
    weight: float = 1.0
    only: frozenset[str] | None = None
    tried: set[str] = set()
    position: int = 0
    waited: float = 0.0


class Waiter(msgspec.Struct, eq=False):
    """An :class:`Ask` in the queue, since ``since`` (monotonic)."""

    ask: Ask
    place: asyncio.Future[Lease]
    since: float = msgspec.field(default_factory=time.monotonic)


class Lease:
    """A place at ``member``. :meth:`end` gives it back, once."""

    __slots__ = ("_end", "began", "hold", "member")

    def __init__(self, member: Member, hold: str | None, end: Callable[[Lease, bool], None]) -> None:
        self.member = member
        self.hold = hold
        self.began = time.monotonic()
        self._end: Callable[[Lease, bool], None] | None = end

    def end(self, *, whole: bool = True) -> None:
        """The answer is over; not ``whole`` if its connection was closed in the middle. Again does nothing."""
        if self._end is not None:
            end, self._end = self._end, None
            end(self, whole)
