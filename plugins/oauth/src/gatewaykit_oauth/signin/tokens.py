"""Tokens of cookies and links: ``gks_`` (session) or ``gkl_`` (link) and 256 random bits; the database has digests."""

from __future__ import annotations

import re
import secrets
from hashlib import sha256

SESSION, LINK = "gks_", "gkl_"
_has_shape = re.compile(r"gk[sl]_[A-Za-z0-9_-]{43}").fullmatch


def new_token(prefix: str) -> str:
    """A new one. Nobody can guess 256 bits, so its plain SHA-256 is a safe digest."""
    return prefix + secrets.token_urlsafe(32)


def digest(token: str, prefix: str) -> bytes | None:
    """What the database has of a token; None for a text that cannot be one."""
    return sha256(token.encode()).digest() if _has_shape(token) and token.startswith(prefix) else None
