"""Counters and the journal of the latest requests."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes


@dataclass
class Stats:
    """What a sandbox has seen since it was made."""

    requests: Counter[str] = field(default_factory=Counter)
    """Requests by path without version, e.g. ``/chat/completions``, ``/files/{id}``, ``/oauth``."""
    statuses: Counter[int] = field(default_factory=Counter)
    tokens_issued: int = 0
    uploads: int = 0
    deletions: int = 0
    parallel: int = 0
    """Limited requests in progress now, over all clients."""
    peak_parallel: int = 0
    refused_parallel: int = 0
    live_streams: int = 0
    finished_streams: int = 0
    cancelled_streams: int = 0
    """Streams whose client left before the last byte."""
    cancelled_requests: int = 0
    """Other requests whose client left before the answer."""
    faults: int = 0
    """Requests that met a scripted fault."""

    def stream_begins(self) -> Callable[[], None]:
        """Count a live stream; the returned function counts it off."""
        self.live_streams += 1

        def ends() -> None:
            self.live_streams -= 1

        return ends

    def as_dict(self) -> dict[str, Any]:
        """The counters as a JSON-ready mapping."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        statuses = {str(status): number for status, number in self.statuses.items()}
        return {"requests": dict(self.requests), "statuses": statuses, **plain}


LONGEST_REMEMBERED = 1_000_000


class Journal:
    """The latest requests, oldest first; of a longer body only the first megabyte is kept."""

    def __init__(self, size: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=size)

    def add(self, entry: Entry) -> None:
        """Remember one request, forgetting the oldest when full."""
        self._entries.append(replace(entry, body=entry.body[:LONGEST_REMEMBERED]))

    def entries(self, path: str | None = None) -> list[Entry]:
        """The remembered requests, or those to ``path`` (without its version)."""
        return [entry for entry in tuple(self._entries) if path in (None, entry.path)]
