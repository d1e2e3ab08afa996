"""Sealing what must rest in the database and be read again: AES-256-GCM (NIST SP 800-38D), a random nonce first.

Private keys are sealed with a key that is derived from the pepper, which is kept elsewhere. A refresh token's successor
is sealed with the refresh token itself: only who has the one can read the other.
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
PRIVATE_KEYS = "gatewaykit: signing keys at rest"
_SUCCESSOR = b"gatewaykit: successor of a refresh token\0"


def seal(key: bytes, text: bytes, about: str) -> bytes:
    """``text``, readable with ``key`` (32 bytes) and together with ``about`` only."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text, about.encode())


def unseal(key: bytes, sealed: bytes, about: str) -> bytes | None:
    """What was sealed; None with another key or for something else."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], about.encode())
    except (InvalidTag, ValueError):
        return None


def key_of_token(text: str) -> bytes:
    """The key that a refresh token is."""
    return hashlib.sha256(_SUCCESSOR + text.encode()).digest()
