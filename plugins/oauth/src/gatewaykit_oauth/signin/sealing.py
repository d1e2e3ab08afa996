"""Sealing what must be read again, such as the secret of a second factor: encrypted, and bound to the pepper."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from ..keys.secrets import Secrets

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

_PURPOSE = "gatewaykit: what is sealed for signing in"


def seal(secrets: Secrets, text: str) -> bytes:
    """``text``, encrypted by the current pepper (Fernet)."""
    return _fernet(secrets).encrypt(text.encode())


def unseal(secrets: Secrets, sealed: bytes, seconds: int | None = None) -> str | None:
    """What was sealed, by whichever pepper; None for anything else, or what is older than ``seconds``."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet(secrets).decrypt(sealed, seconds).decode()
    except (InvalidToken, UnicodeDecodeError):
        return None


def _fernet(secrets: Secrets) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in secrets.digests(_PURPOSE)])
