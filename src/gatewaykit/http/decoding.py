"""Bodies that come compressed, although nobody asked for that (RFC 9110, 8.4.1: gzip and deflate)."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable

from gatewaykit.errors import ProviderBadAnswer

_PIECE = 256 * 1024
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Unpacking:
    """Unpacks a body that ``source`` gives piece by piece, no more of it at a time than anybody wants to hold.

    Raises :class:`~gatewaykit.errors.ProviderBadAnswer` for an encoding that is not known, and for what it is not.
    """

    def __init__(self, source: Callable[[], Awaitable[bytes]], encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise ProviderBadAnswer(detail="the answer has an encoding that was not asked for")
        self._source = source
        self._unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._may_be_raw = encoding == "deflate"
        self._has_more = False

    async def piece(self) -> bytes:
        """The next piece, unpacked; empty at the end."""
        while True:
            data = self._unpacker.unconsumed_tail
            if not data and not self._has_more and not (data := await self._source()):
                if not self._unpacker.eof:
                    raise _not_encoded()
                return b""
            if not self._unpacker.eof and (piece := self._unpacked(data)):
                return piece

    def _unpacked(self, data: bytes) -> bytes:
        try:
            piece = self._unpacker.decompress(data, _PIECE)
        except zlib.error:
            if not self._may_be_raw:
                raise _not_encoded() from None
            # Some servers leave zlib's frame away where ``deflate`` means it.
            self._unpacker, self._may_be_raw = zlib.decompressobj(-zlib.MAX_WBITS), False
            return self._unpacked(data)
        self._may_be_raw = False
        self._has_more = len(piece) == _PIECE and not self._unpacker.eof
        return piece


def _not_encoded() -> ProviderBadAnswer:
    return ProviderBadAnswer(detail="the answer is not encoded as it says")
