"""From OpenAI's chunks and answers to the gateway's events and replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gatewaykit.types import (
    Choice,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)

from .course import Course, broken_off
from .wire import Answer, AnswerChoice, ChunkChoice, Said, ToolCallPiece, arguments_text, whole

_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_BROKEN = frozenset({"error", "insufficient_system_resource"})
"""Reasons of OpenRouter and DeepSeek for an answer that is not whole."""


class Translation:
    """Reads the frames of one stream as events."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._started = False
        self._calls: dict[int, _Calls] = {}

    @property
    def over(self) -> bool:
        """Whether the stream needs no further reading."""
        return self._course.over

    def take(self, block: bytes) -> list[Event]:
        """The events in ``block``, a number of whole frames."""
        events: list[Event] = []
        for _, data in self._course.pieces(block):
            chunk = self._course.read(data)
            if chunk is None:
                break
            if not self._started:
                self._started = True
                events.append(Started(chunk.model or "", chunk.id or "", whole(chunk.created)))
            for choice in chunk.choices or ():
                if choice.delta is not None:
                    self._say(choice.delta, choice, events)
                if choice.finish_reason in _BROKEN:
                    self._course.broke_off(choice.finish_reason)
                elif choice.finish_reason:
                    events.append(Finished(_reason(choice.finish_reason), choice.index))
        return events

    def end(self) -> Iterator[Event]:
        """What follows the last frame. Raises what made it the last."""
        usage = self._course.end()
        for choice in sorted(self._course.seen - self._course.finished):
            yield Finished("stop", choice)
        if usage is not None:
            yield usage

    def _say(self, said: Said, choice: ChunkChoice, events: list[Event]) -> None:
        index, text = choice.index, said.content
        if reasoning := said.reasoning_content or said.reasoning:
            events.append(ReasoningDelta(reasoning, index))
        if text or choice.logprobs is not None:
            events.append(TextDelta(_text(text), index, choice.logprobs))
        if said.refusal:
            events.append(RefusalDelta(said.refusal, index))
        if said.tool_calls:
            calls = self._calls.setdefault(index, _Calls())
            events.extend(calls.delta(piece, index) for piece in said.tool_calls)


class _Calls:
    """Numbers the tool calls of one choice where the upstream does not: a new id is a new call."""

    def __init__(self) -> None:
        self._last = -1
        self._ids: dict[str, int] = {}

    def delta(self, piece: ToolCallPiece, choice: int) -> ToolCallDelta:
        function = piece.function
        return ToolCallDelta(
            index=self._index(piece),
            id=piece.id or "",
            name=(function.name or "") if function else "",
            arguments=arguments_text(function.arguments) if function else "",
            choice=choice,
        )

    def _index(self, piece: ToolCallPiece) -> int:
        if piece.index is not None:
            self._last = max(self._last, piece.index)
            return piece.index
        if piece.id and piece.id not in self._ids:
            self._ids[piece.id] = self._last + 1
        index = self._ids.get(piece.id or "", max(self._last, 0))
        self._last = max(self._last, index)
        return index


def reply_of(answer: Answer) -> Reply:
    """An answer in one piece, in the gateway's words.

    Raises :class:`~gatewaykit.errors.ProviderUnavailable` for one that is not whole.
    """
    for choice in answer.choices or ():
        if choice.finish_reason in _BROKEN:
            raise broken_off(choice.finish_reason)
    return Reply(
        model=answer.model or "",
        id=answer.id or "",
        created=whole(answer.created),
        choices=[_choice(choice) for choice in answer.choices or ()],
        usage=answer.usage.usage() if answer.usage else None,
    )


def _choice(choice: AnswerChoice) -> Choice:
    said = choice.message or Said()
    return Choice(
        index=choice.index,
        text=_text(said.content),
        reasoning=said.reasoning_content or said.reasoning or "",
        refusal=said.refusal or "",
        tool_calls=[
            ToolCall(call.id or "", call.function.name or "", arguments_text(call.function.arguments))
            for call in said.tool_calls or ()
            if call.function is not None
        ],
        finish_reason=_reason(choice.finish_reason or ""),
        logprobs=choice.logprobs,
    )


def _reason(word: str) -> FinishReason:
    return _REASONS.get(word, "stop")


def _text(content: Any) -> str:
    """Text, or the text of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type", "text") == "text")
    return "".join(text for text in texts if isinstance(text, str))
