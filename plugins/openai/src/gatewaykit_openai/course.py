"""How far a stream has come, for both ways of reading one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gatewaykit.errors import GatewayError, ProviderBadAnswer, ProviderUnavailable
from gatewaykit.sse import DONE, payloads
from gatewaykit.types import Usage

from .wire import UNREADABLE, Chunk, ChunkChoice, read_chunk

BROKEN_OFF = "The model provider broke off its answer."


class Course:
    """Follows the frames of one stream: what it used, and whether it was whole, broken off or ended by an error.

    ``refusal`` makes an error from an error document in the stream.
    """

    def __init__(self, refusal: Callable[[Any], GatewayError]) -> None:
        self._refusal = refusal
        self._error: GatewayError | None = None
        self._done = False
        self._usage: Usage | None = None
        self.seen: set[int] = set()
        self.finished: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether nothing that follows counts any more."""
        return self._done or self._error is not None

    def pieces(self, block: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The frames of ``block`` that carry data, each with that data, until the one that ends the stream."""
        for frame in block.removesuffix(b"\n\n").split(b"\n\n"):
            usual = frame.startswith(b"data: {") and b"\n" not in frame
            for data in (frame[6:],) if usual else payloads(frame):
                if data == DONE:
                    self._done = True
                else:
                    yield frame + b"\n\n", data
            if self.over:
                return

    def broke_off(self, reason: str) -> None:
        """The upstream says itself that its answer is not whole."""
        self._error = broken_off(reason)

    def done(self) -> None:
        """The end mark has come."""
        self._done = True

    def probe(self, data: bytes) -> Chunk | None:
        """As :meth:`read`, for data that may be read again if it is ``None``: then nothing is noted."""
        try:
            chunk = read_chunk(data)
        except UNREADABLE:
            return None
        if chunk.error is not None:
            return None
        self._note(chunk)
        return chunk

    def read(self, data: bytes, *, loosely: bool = False) -> Chunk | None:
        """The chunk in ``data``. ``None`` ends the stream: an error, or what is no JSON of this format.

        ``loosely``: it is enough when ``data`` is a JSON object, whatever the types of its members.
        """
        try:
            chunk = read_chunk(data)
        except UNREADABLE as error:
            known = _loose_chunk(data) if loosely and isinstance(error, msgspec.ValidationError) else None
            if known is None:
                self._error = ProviderBadAnswer(detail=f"a chunk cannot be read: {type(error).__name__}")
                return None
            chunk = known
        if chunk.error is not None:
            self._error = self._refusal(chunk.error)
            return None
        self._note(chunk)
        return chunk

    def _note(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self._usage = chunk.usage.usage() or self._usage
        for choice in chunk.choices or ():
            self.seen.add(choice.index)
            if choice.finish_reason:
                self.finished.add(choice.index)

    def end(self) -> Usage | None:
        """What the stream used, once it is over. Raises the error that ended it, or that it was broken off."""
        if self._error is not None:
            raise self._error
        if not self._done and not (self.seen and self.seen <= self.finished):
            raise ProviderUnavailable(BROKEN_OFF, detail="the stream ended without a finish reason")
        if not self.seen:
            raise ProviderBadAnswer(detail="a stream without choices")
        return self._usage


def broken_off(reason: str) -> ProviderUnavailable:
    """The error of an answer that ended with this finish reason."""
    return ProviderUnavailable(BROKEN_OFF, detail=f"finish reason {reason}")


def _loose_chunk(data: bytes) -> Chunk | None:
    """What can be known of a JSON object with members of other types than the format's."""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE:
        return None
    choices = document.get("choices")
    return Chunk(
        error=document.get("error"),
        choices=[
            ChunkChoice(index=number, finish_reason=str(choice.get("finish_reason") or ""))
            for number, choice in enumerate(choices if isinstance(choices, list) else ())
            if isinstance(choice, dict)
        ],
    )
