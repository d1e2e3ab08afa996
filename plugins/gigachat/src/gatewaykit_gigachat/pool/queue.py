"""A queue that is fair between keys, whatever the number of calls that each of them has waiting.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996), where every call costs one: the
head of each key has a start tag, the smallest is served first, and serving it moves the key's tag on by ``1 / weight``.
While two keys both have calls waiting, what they were served differs by at most one call each, weighed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from msgspec import Struct, field

T = TypeVar("T")
_MOST_REMEMBERED = 256


class Full(Exception):
    """There is no room for another one, in the whole queue or for its key."""


class _Line(Struct, Generic[T]):
    """What one key has waiting. ``start`` is the tag of its head, or of the next one to come."""

    weight: float
    start: float
    number: int
    waiting: deque[T] = field(default_factory=deque)


class FairQueue(Generic[T]):
    """Holds at most ``longest`` items, ``longest_line`` of them for one key. The items of a key stay in their order.

    ``length`` is what ``len()`` tells, for those who ask at every call.
    """

    def __init__(self, longest: int, longest_line: int) -> None:
        self._longest = longest
        self._longest_line = longest_line
        self._lines: dict[str, _Line[T]] = {}
        self._served = 0.0
        self.length = 0
        self._number = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[T]:
        """All that wait, in no particular order; safe from another thread."""
        return (item for line in tuple(self._lines.values()) for item in tuple(line.waiting))

    @property
    def weight(self) -> float:
        """That of all keys that have something waiting."""
        return sum(line.weight for line in self._lines.values() if line.waiting)

    def put(self, key: str, weight: float, item: T) -> int:
        """Add ``item`` to the line of ``key``. Returns its position, from 1, as it stands now. Raises :class:`Full`."""
        line = self._lines.get(key)
        if self.length >= self._longest or (line is not None and len(line.waiting) >= self._longest_line):
            raise Full
        if line is None:
            self._number += 1
            line = self._lines[key] = _Line(weight, self._served, self._number)
        elif not line.waiting:
            line.start = max(line.start, self._served)
        line.weight = weight
        line.waiting.append(item)
        self.length += 1
        return self._position(line)

    def wants(self, fits: Callable[[T], bool]) -> bool:
        """Whether :meth:`take` would give anything."""
        return any(fits(line.waiting[0]) for line in self._lines.values() if line.waiting)

    def take(self, fits: Callable[[T], bool]) -> T | None:
        """The next item that ``fits``, out of the queue; of each key only the first that waits is asked about."""
        heads = sorted((line.start, line.number, key) for key, line in self._lines.items() if line.waiting)
        for start, _, key in heads:
            line = self._lines[key]
            if not fits(line.waiting[0]):
                continue
            item = line.waiting.popleft()
            self._served = max(self._served, start)
            line.start = start + 1 / line.weight
            self._shorter()
            return item
        return None

    def remove(self, key: str, item: T) -> bool:
        """Take out an item that waits no longer; False if it does not wait."""
        line = self._lines.get(key)
        if line is None or item not in line.waiting:
            return False
        line.waiting.remove(item)
        self._shorter()
        return True

    def _position(self, new: _Line[T]) -> int:
        """How many will be served before the last of ``new``, and itself, if nobody else comes."""
        last = new.start + (len(new.waiting) - 1) / new.weight
        before = 0
        for line in self._lines.values():
            if line is not new and line.waiting:
                turns = math.floor((last - line.start) * line.weight + 1e-9) + 1
                before += max(0, min(len(line.waiting), turns))
        return before + len(new.waiting)

    def _shorter(self) -> None:
        """One less. Who was served ahead of others is remembered while others wait; of many, those most ahead."""
        self.length -= 1
        if not self.length:
            self._lines.clear()
            self._served = 0.0
        elif len(self._lines) > 2 * _MOST_REMEMBERED:
            idle = sorted((line.start, key) for key, line in self._lines.items() if not line.waiting)
            for _, key in idle[:-_MOST_REMEMBERED]:
                del self._lines[key]
