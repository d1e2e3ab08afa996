"""What a process remembers of credentials: bounded, by the digest of each, and forgotten by what it depends on."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class Remembered(Protocol):
    """What can be remembered. ``subjects`` are what it depends on, as the feed of changes calls them."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Such as ``key:ID`` and ``user:ID``."""
        ...


EntryT = TypeVar("EntryT", bound=Remembered)


class Cache(Generic[EntryT]):
    """At most ``size`` credentials that are good, the least recently used forgotten first; and as many digests of which
    none is known, each for ``negative_seconds``. Strangers cannot push out good ones by guessing.
    """

    def __init__(self, size: int, negative_seconds: float) -> None:
        self._size = size
        self._negative_seconds = negative_seconds
        self._entries: OrderedDict[bytes, EntryT] = OrderedDict()
        self._seqs: dict[bytes, int] = {}
        self._digests: dict[str, set[bytes]] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes) -> EntryT | None:
        """What this digest stands for, if it is remembered."""
        entry = self._entries.get(digest)
        if entry is not None:
            self._entries.move_to_end(digest)
        return entry

    def is_unknown(self, digest: bytes) -> bool:
        """Whether it is remembered that it stands for nothing."""
        until = self._unknown.get(digest)
        return until is not None and time.monotonic() < until

    def put(self, digest: bytes, entry: EntryT, seq: int) -> None:
        """Remember what it stands for, as it was read at the feed's number ``seq`` or later."""
        self.forget(digest)
        self._entries[digest] = entry
        self._seqs[digest] = seq
        for subject in entry.subjects:
            self._digests.setdefault(subject, set()).add(digest)
        if len(self._entries) > self._size:
            self.forget(next(iter(self._entries)))

    def put_unknown(self, digest: bytes) -> None:
        """Remember that it stands for nothing."""
        self._unknown[digest] = time.monotonic() + self._negative_seconds
        self._unknown.move_to_end(digest)
        if len(self._unknown) > self._size:
            self._unknown.popitem(last=False)

    def evict(self, subject: str, seq: int | None) -> Sequence[bytes]:
        """Forget what depends on ``subject`` and was read before change ``seq``; None is later than all. What was
        unknown is forgotten too: it may be known now. Returns the digests of the good ones that were forgotten.
        """
        self._unknown.clear()
        depending = self._digests.get(subject, ())
        forgotten = [digest for digest in depending if seq is None or self._seqs[digest] < seq]
        for digest in forgotten:
            self.forget(digest)
        return forgotten

    def clear(self) -> None:
        """Forget everything."""
        self._unknown.clear()
        self._entries.clear()
        self._seqs.clear()
        self._digests.clear()

    def forget(self, digest: bytes) -> None:
        """Forget what this digest stands for."""
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        del self._seqs[digest]
        for subject in entry.subjects:
            digests = self._digests[subject]
            digests.discard(digest)
            if not digests:
                del self._digests[subject]
