"""When a certificate ends: the one thing about it that Python's ``ssl`` does not tell of a certificate of one's own."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


def ends(file: Path) -> float | None:
    """Unix time at which the first certificate of a PEM file ends (RFC 5280, 4.1); ``None`` if that cannot be read."""
    try:
        found = _PEM.search(file.read_text("ascii", "replace"))
        return None if found is None else _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
    except (OSError, ValueError, IndexError):
        return None


def _not_after(der: bytes) -> float:
    """``Certificate``, ``tbsCertificate``: version (left out in the oldest), serial, algorithm, issuer, validity."""
    _, certificate, _ = _element(der)
    _, fields, _ = _element(certificate)
    kind, _, rest = _element(fields)
    for _ in range(3 if kind == _VERSION else 2):
        _, _, rest = _element(rest)
    _, validity, _ = _element(rest)
    _, _, after_first = _element(validity)
    kind, text, _ = _element(after_first)
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(kind, "")
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows, of the first element in DER (X.690, 8.1)."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut short")
    return data[0], data[start : start + length], data[start + length :]
