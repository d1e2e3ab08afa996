"""When certificates end: the one thing about them that Python's ``ssl`` does not tell of those in a file."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


def ends(file: Path) -> float | None:
    """Unix time at which the first certificate of a PEM file ends (RFC 5280, 4.1); ``None`` if that cannot be read."""
    return next(iter(_ends(file)), None)


def next_end(bundle: Path, now: float) -> float | None:
    """When the next of the certificates in a PEM file ends that have not ended at ``now``; ``None`` if there is none.

    A bundle of authorities holds old ones for years; what ended long ago is nobody's loss.
    """
    return min((end for end in _ends(bundle) if end is not None and end > now), default=None)


def _ends(file: Path) -> Iterator[float | None]:
    try:
        text = file.read_text("ascii", "replace")
    except OSError:
        return
    for found in _PEM.finditer(text):
        try:
            yield _not_after(ssl.PEM_cert_to_DER_cert(found[0]))
        except (ValueError, IndexError):
            yield None


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
