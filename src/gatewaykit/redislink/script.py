"""Lua scripts that run in Redis."""

from __future__ import annotations

import hashlib


class Script:
    """A Lua script. Redis knows it by the SHA-1 of its text."""

    __slots__ = ("digest", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
