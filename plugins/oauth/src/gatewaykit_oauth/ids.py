"""Ids of what the database holds: they may be shown, and read out."""

from __future__ import annotations

import secrets

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 20


def new_id(prefix: str = "") -> str:
    """A new one, of 100 random bits. Without dashes: on a command line an id is no option."""
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
