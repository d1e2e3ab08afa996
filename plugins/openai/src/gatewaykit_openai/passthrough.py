"""Streams that pass through: frames stay the upstream's bytes, and are read only for the account."""

from __future__ import annotations

from collections.abc import Iterable

from gatewaykit.types import Event, Raw

from .course import Course
from .wire import UNREADABLE, Chunk, Said, arguments_text, read_glance


class Passage:
    """Passes frames on. ``hide_usage`` keeps back the chunk that has nothing but token counts."""

    def __init__(self, course: Course, *, hide_usage: bool = False) -> None:
        self._course = course
        self._hide_usage = hide_usage

    @property
    def over(self) -> bool:
        """Whether the stream needs no further reading."""
        return self._course.over

    def take(self, block: bytes) -> Iterable[Event]:
        """What ``block``, a number of whole frames, gives to the client."""
        characters = 0
        for frame in block.removesuffix(b"\n\n").split(b"\n\n"):
            text = self._usual(frame)
            if not text:
                return self._take_apart(block)
            characters += len(text)
        return (Raw(block, characters),)

    def end(self) -> Iterable[Event]:
        """What follows the last frame. Raises what made it the last."""
        usage = self._course.end()
        return () if usage is None else (usage,)

    def _take_apart(self, block: bytes) -> Iterable[Event]:
        passed: list[bytes] = []
        characters = 0
        for frame, data in self._course.pieces(block):
            chunk = self._course.read(data, loosely=True)
            if chunk is None:
                break
            if not self._is_hidden(chunk):
                passed.append(frame)
                characters += _characters(chunk)
        return (Raw(b"".join(passed), characters),) if passed else ()

    def _usual(self, frame: bytes) -> str:
        """The text of a frame that brings a piece of text and nothing to act upon, as most do; else none."""
        if not frame.startswith(b"data: {") or b"\n" in frame:
            return ""
        try:
            chunk = read_glance(frame[6:])
        except UNREADABLE:
            return ""
        if not chunk.choices or chunk.usage is not None or chunk.error is not None:
            return ""
        choice = chunk.choices[0]
        if len(chunk.choices) > 1 or choice.finish_reason is not None or choice.delta is None:
            return ""
        self._course.seen.add(choice.index)
        delta = choice.delta
        text = delta.content or delta.reasoning_content or delta.reasoning
        return text if isinstance(text, str) else ""

    def _is_hidden(self, chunk: Chunk) -> bool:
        return self._hide_usage and chunk.usage is not None and not chunk.choices


def _characters(chunk: Chunk) -> int:
    """How much text ``chunk`` brings, of every kind that a model is paid for."""
    return sum(_length(choice.delta) for choice in chunk.choices or () if choice.delta is not None)


def _length(said: Said) -> int:
    count = len(said.content) if isinstance(said.content, str) else 0
    count += len(said.reasoning_content or said.reasoning or "") + len(said.refusal or "")
    for call in said.tool_calls or ():
        if call.function is not None:
            count += len(arguments_text(call.function.arguments))
    return count
