"""What keys and other secrets look like: ``gk_<env>_<random><checksum>``, ``gko_<random><checksum>``.

``env`` is 1 to 16 lower-case letters and digits; ``random`` is 36 base62 digits: 214 bits, of which the end of the
checksum, which a hint shows, gives away 24. ``checksum`` is the CRC-32 of all before it in six base62 digits. A text
that begins with ``gk_`` and has not exactly this shape is no key of ours: it may be one of the configuration's.
"""

from __future__ import annotations

import re
import secrets
import string
from zlib import crc32

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECKSUM, _SHOWN = 36, 6, 4
REFRESH, CLIENT, CODE, DEVICE, REGISTRATION, INTERACTION = "gko_", "gkc_", "gka_", "gkd_", "gkr_", "gki_"
"""How other secrets begin: refresh tokens, client secrets, authorization codes, device codes, registration tokens and
requests that wait for consent.
"""

_has_shape = re.compile(rf"gk_[a-z0-9]{{1,16}}_[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}").fullmatch


def new_key(env: str) -> str:
    """A new key."""
    return new_secret(f"gk_{env}_")


def new_secret(prefix: str) -> str:
    """A new secret of another kind."""
    text = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return text + _checksum(text)


def is_secret(text: str, prefix: str) -> bool:
    """Whether ``text`` looks like a secret that begins with ``prefix``, its checksum included."""
    body = text[len(prefix) :]
    has_shape = text.startswith(prefix) and len(body) == _RANDOM + _CHECKSUM and body.isascii() and body.isalnum()
    return has_shape and has_checksum(text)


def has_shape(text: str) -> bool:
    """Whether ``text`` looks like a key of ours."""
    return _has_shape(text) is not None


def has_checksum(text: str) -> bool:
    """Whether the checksum of ``text``, which has the shape of a key, is right. No secret is compared here."""
    return _checksum(text[:-_CHECKSUM]) == text[-_CHECKSUM:]


def hint(text: str) -> str:
    """What may be shown of a key: its prefix and its last four characters."""
    return f"{text[: -_RANDOM - _CHECKSUM]}…{text[-_SHOWN:]}"


def _checksum(text: str) -> str:
    number = crc32(text.encode("ascii"))
    digits = ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
