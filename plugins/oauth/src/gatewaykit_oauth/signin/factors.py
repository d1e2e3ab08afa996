"""The second factor: one-time codes of an app (TOTP, RFC 6238), and recovery codes for whoever has lost it."""

from __future__ import annotations

import hmac
import secrets as random
from datetime import datetime

from ..keys.secrets import Secrets

STEP_SECONDS = 30
RECOVERY_CODES = 10
_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"
_HALF = 5
_DRIFT = (0, -1, 1)


def new_secret() -> str:
    """160 random bits in base32, as apps want them."""
    import pyotp

    return pyotp.random_base32()


def provisioning_uri(secret: str, account_id: str, issuer: str) -> str:
    """What the QR code says."""
    import pyotp

    return pyotp.TOTP(secret).provisioning_uri(name=account_id, issuer_name=issuer)


def step_of(secret: str, code: str, now: datetime, *, after: int) -> int | None:
    """The step of time that ``code`` belongs to: that of now or its neighbours, if it is later than ``after``."""
    import pyotp

    given = "".join(code.split())
    if not (given.isascii() and given.isdecimal() and len(given) == 6):
        return None
    current, otp = int(now.timestamp()) // STEP_SECONDS, pyotp.TOTP(secret)
    for step in (current + drift for drift in _DRIFT):
        if hmac.compare_digest(otp.generate_otp(step), given) and step > after:
            return step
    return None


def new_recovery_codes() -> list[str]:
    """Ten codes of 49 random bits."""
    return [f"{_part()}-{_part()}" for _ in range(RECOVERY_CODES)]


def recovery_digest(secrets: Secrets, code: str) -> list[str]:
    """What is kept of a recovery code, by each pepper, the current one first."""
    letters = "".join(letter for letter in code.lower() if letter.isalnum())[: 4 * _HALF]
    return [digest.hex() for digest in secrets.digests(f"recovery code {letters}")]


def _part() -> str:
    return "".join(random.choice(_LETTERS) for _ in range(_HALF))
