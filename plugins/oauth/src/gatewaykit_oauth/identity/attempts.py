"""One attempt to sign in elsewhere: what the browser that began it keeps, sealed, until it comes back.

Nothing is written down when somebody starts, so that nobody can fill the database with attempts; an attempt that came
back is, so that it comes back once.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_urlsafe

import msgspec

from ..keys.secrets import Secrets
from ..signin.sealing import seal, unseal

_PURPOSE = "gatewaykit: attempts to sign in elsewhere"
SECONDS = 600
"""How long the provider and the person may take."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """``next`` is where the person was on the way to. ``account`` is who is signed in already, and only proves it once
    more. ``ends`` is unix time.
    """

    provider: str
    state: str
    nonce: str
    verifier: str
    next: str
    ends: int
    account: str | None = None

    def __repr__(self) -> str:
        return f"Attempt({self.provider})"

    @property
    def digest(self) -> bytes:
        """What it is known by when it has come back."""
        return sha256(f"sign-in {self.state}".encode()).digest()

    def is_answered_by(self, state: str | None) -> bool:
        """Whether an answer is to this attempt."""
        return hmac.compare_digest(self.state.encode(), (state or "").encode("utf-8", "replace"))


def new_attempt(provider: str, target: str, account: str | None) -> Attempt:
    """An attempt that nobody can guess."""
    ends = int(datetime.now(UTC).timestamp()) + SECONDS
    words = {"state": token_urlsafe(32), "nonce": token_urlsafe(32), "verifier": token_urlsafe(48)}
    return Attempt(provider=provider, next=target, ends=ends, account=account, **words)


def sealed(secrets: Secrets, attempt: Attempt) -> str:
    """For the cookie."""
    return seal(secrets, _PURPOSE, msgspec.json.encode(attempt).decode()).decode()


def unsealed(secrets: Secrets, text: str) -> Attempt | None:
    """The attempt of a cookie; None for anything else, or one that is too old."""
    found = unseal(secrets, _PURPOSE, text.encode("utf-8", "replace"), SECONDS)
    return None if found is None else msgspec.json.decode(found, type=Attempt)
