"""Sealing what must be read again, such as the secret of a second factor: encrypted, and bound to the pepper.

What is sealed for one purpose is nothing for another: a browser can hand in at one place what it was given at another.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from ..keys.secrets import Secrets

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

FACTOR = "gatewaykit: what is sealed for signing in"
"""Secrets of second factors at rest."""


def seal(secrets: Secrets, purpose: str, text: str) -> bytes:
    """``text``, encrypted by the current pepper for ``purpose`` (Fernet)."""
    return _fernet(secrets, purpose).encrypt(text.encode())


def unseal(secrets: Secrets, purpose: str, sealed: bytes, seconds: int | None = None) -> str | None:
    """What was sealed for ``purpose``, by whichever pepper; None for all else, and after ``seconds``."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet(secrets, purpose).decrypt(sealed, seconds).decode()
    except (InvalidToken, UnicodeDecodeError):
        return None


def _fernet(secrets: Secrets, purpose: str) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in secrets.digests(purpose)])
