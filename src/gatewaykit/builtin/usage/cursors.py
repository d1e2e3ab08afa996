"""Where the next page begins: the key of the last line, packed so that nobody is tempted to make one up."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from gatewaykit.builtin.usage.parameters import LONGEST_TEXT, wrong

Place: TypeAlias = tuple[datetime, tuple[str, ...]]
"""The key of a line: a moment, and the texts that follow it in the order of lines."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LONGEST_CURSOR = 8192


def pack(place: Place) -> str:
    """An opaque text for :func:`unpack`."""
    moment, texts = place
    document = msgspec.json.encode(((moment - _EPOCH) // _MICROSECOND, texts))
    return base64.urlsafe_b64encode(document).decode().rstrip("=")


def unpack(text: str | None, texts: int) -> Place | None:
    """The place of a cursor whose key has so many ``texts``. Raises :class:`~gatewaykit.errors.BadRequest`."""
    if text is None:
        return None
    try:
        document = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        micros, found = msgspec.json.decode(document, type=tuple[int, tuple[str, ...]])
        if len(found) != texts or any(len(part) > LONGEST_TEXT or "\0" in part for part in found):
            raise ValueError("not a key")
        return _EPOCH + micros * _MICROSECOND, found
    except (ValueError, OverflowError, binascii.Error, msgspec.MsgspecError):
        raise wrong("after", "must be the `next` of the page before") from None
