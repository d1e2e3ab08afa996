"""What a process remembers of keys: bounded, by the whole digest of the secret, and forgotten by what it depends on."""

from __future__ import annotations

import time
from collections import OrderedDict

from .rows import Entry


class KeyCache:
    """At most ``size`` keys that may be used, the least recently used forgotten first; and as many digests of which no
    key is known, each for ``negative_seconds``. Strangers cannot push out keys by guessing.
    """

    def __init__(self, size: int, negative_seconds: float) -> None:
        self._size = size
        self._negative_seconds = negative_seconds
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._digests: dict[str, set[bytes]] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes) -> Entry | None:
        """The key of this digest, if it is remembered."""
        entry = self._entries.get(digest)
        if entry is not None:
            self._entries.move_to_end(digest)
        return entry

    def is_unknown(self, digest: bytes) -> bool:
        """Whether it is remembered that there is no such key."""
        until = self._unknown.get(digest)
        return until is not None and time.monotonic() < until

    def put(self, digest: bytes, entry: Entry) -> None:
        """Remember a key."""
        self._forget(digest)
        self._entries[digest] = entry
        for subject in entry.subjects:
            self._digests.setdefault(subject, set()).add(digest)
        if len(self._entries) > self._size:
            self._forget(next(iter(self._entries)))

    def put_unknown(self, digest: bytes) -> None:
        """Remember that there is no such key."""
        self._unknown[digest] = time.monotonic() + self._negative_seconds
        self._unknown.move_to_end(digest)
        if len(self._unknown) > self._size:
            self._unknown.popitem(last=False)

    def evict(self, subject: str) -> None:
        """Forget what depends on ``subject``, and all that was unknown: it may be known now."""
        self._unknown.clear()
        for digest in tuple(self._digests.get(subject, ())):
            self._forget(digest)

    def clear(self) -> None:
        """Forget everything."""
        self._unknown.clear()
        self._entries.clear()
        self._digests.clear()

    def _forget(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        for subject in entry.subjects:
            digests = self._digests[subject]
            digests.discard(digest)
            if not digests:
                del self._digests[subject]
