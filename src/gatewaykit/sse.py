"""Server-sent events (WHATWG HTML, 9.2), as language-model providers write them, with no I/O.

A frame is what stands between blank lines. :class:`FrameSplitter` cuts a byte stream at frame borders without looking
inside; :func:`payloads` reads the ``data:`` lines of whole frames.
"""

from __future__ import annotations

from gatewaykit.errors import ProviderBadAnswer

DONE = b"[DONE]"
DONE_FRAME = b"data: [DONE]\n\n"
MAX_FRAME_BYTES = 8 * 1024 * 1024
_BORDER = b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FrameSplitter:
    """Collects bytes and gives back blocks of whole frames, with LF line ends and without a byte order mark.

    Every byte is looked at once, however small the pieces are in which a frame comes.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._rest = bytearray()
        self._max = max_frame_bytes
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> bytes:
        """All frames that are complete now, with their blank lines; empty when none is.

        Raises :class:`~gatewaykit.errors.ProviderBadAnswer` when one frame grows beyond the limit.
        """
        if self._after_cr or b"\r" in chunk:
            chunk = self._unix(chunk)
        if not self._rest and not self._at_start and chunk.endswith(_BORDER):
            return chunk
        return self._cut(chunk)

    def flush(self) -> bytes:
        """What is left at the end of the stream: a last frame without its blank line, or nothing."""
        rest = self._without_mark(bytes(self._rest)).rstrip(b"\n")
        self._rest.clear()
        return rest + _BORDER if rest else b""

    def _cut(self, chunk: bytes) -> bytes:
        """The whole frames of what was left and ``chunk`` together; the border may lie between the two."""
        rest = self._rest
        known = len(rest)
        rest += chunk
        cut = rest.rfind(_BORDER, max(0, known - 1)) + len(_BORDER)
        block = b""
        if cut >= len(_BORDER):
            block = bytes(rest[:cut])
            del rest[:cut]
        if len(rest) > self._max:
            raise ProviderBadAnswer(detail="a server-sent event is too long")
        return self._without_mark(block) if block else block

    def _without_mark(self, block: bytes) -> bytes:
        """``block`` without the byte order mark that may stand at the very start of the stream."""
        if not self._at_start:
            return block
        self._at_start = False
        return block.removeprefix(_BYTE_ORDER_MARK)

    def _unix(self, chunk: bytes) -> bytes:
        """``chunk`` with LF line ends. A CR ends its line at once; an LF that follows it later belongs to it."""
        if chunk and self._after_cr:
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if chunk.endswith(b"\r"):
            self._after_cr = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def payloads(block: bytes) -> list[bytes]:
    """The data of each frame of ``block``, comments and other fields left out; several data lines are joined by LF."""
    found = []
    for frame in block.split(_BORDER):
        if frame.startswith(b"data: ") and b"\n" not in frame:
            found.append(frame[6:])
            continue
        lines = [_value(line) for line in frame.split(b"\n") if line == b"data" or line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(lines))
    return found


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")


def as_array(block: bytes) -> bytes | None:
    """The data of all frames of ``block`` as one JSON array, to be decoded in one go.

    ``None`` if a frame is anything else than one line of data with an object. What a frame holds is not looked at:
    there are as many objects as frames only if the decoded array has ``block.count(b"\\n\\n")`` items.
    """
    listed = block[6:-2].replace(b"\n\ndata: ", b",")
    if not block.startswith(b"data: {") or not block.endswith(b"\n\n") or b"\n" in listed:
        return None
    return b"[" + listed + b"]"
