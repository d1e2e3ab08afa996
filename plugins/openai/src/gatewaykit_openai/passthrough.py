"""Streams that pass through: frames stay the upstream's bytes, and are read only for the account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gatewaykit.sse import DONE_FRAME, as_array
from gatewaykit.types import Event, Raw

from .course import Course
from .wire import UNREADABLE, Chunk, Glance, Said, arguments_text, read_glance, read_glances


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
        if (text := self._lone_text(block)) is not None:
            return (Raw(block, len(text)),)
        body = block.removesuffix(DONE_FRAME)
        chunks = _glance(body)
        if chunks is None:
            return self._take_apart(block)
        texts = [self._usual(chunk) for chunk in chunks]
        characters = sum(map(len, texts))
        if "" in texts:
            extra = self._act_upon(body, chunks, texts)
            if extra is None:
                return self._take_apart(block)
            characters += extra
        if body is not block:
            self._course.done()
        return (Raw(body, characters),) if body else ()

    def _lone_text(self, block: bytes) -> str | None:
        """The text of a block that is one usual chunk, as most are where a model writes; else ``None``."""
        if not block.startswith(b"data: {") or block.find(b"\n") != len(block) - 2:
            return None
        try:
            chunk = read_glance(block[6:])
        except UNREADABLE:
            return None
        return self._usual(chunk) or None

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

    def _usual(self, chunk: Glance) -> str:
        """The text of a chunk that brings a piece of text and nothing to act upon, as most do; else none."""
        choices = chunk.choices
        if not choices or len(choices) > 1 or chunk.usage is not None or chunk.error is not None:
            return ""
        choice = choices[0]
        delta = choice.delta
        if delta is None or choice.finish_reason is not None:
            return ""
        self._course.seen.add(choice.index)
        text = delta.content or delta.reasoning_content or delta.reasoning
        return text if isinstance(text, str) else ""

    def _act_upon(self, body: bytes, chunks: Sequence[Glance], texts: Sequence[str]) -> int | None:
        """Read those frames that are not usual. How much text they bring; ``None`` when one must not pass."""
        if self._hide_usage or any(chunk.error is not None for chunk in chunks):
            return None
        frames = body.split(b"\n\n")
        characters = 0
        for frame, text in zip(frames, texts, strict=False):
            if not text:
                chunk = self._course.probe(frame[6:])
                if chunk is None:
                    return None
                characters += _characters(chunk)
        return characters

    def _is_hidden(self, chunk: Chunk) -> bool:
        return self._hide_usage and chunk.usage is not None and not chunk.choices


def _glance(body: bytes) -> Sequence[Glance] | None:
    """The chunks of ``body`` if each is one line of data with an object, decoded together; else ``None``."""
    if not body:
        return ()
    array = as_array(body)
    if array is None:
        return None
    try:
        chunks = read_glances(array)
    except UNREADABLE:
        return None
    return chunks if len(chunks) == body.count(b"\n\n") else None


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
