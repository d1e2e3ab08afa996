"""GigaChat's answers (v1) as the gateway's events: streamed documents and whole ones go the same way."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from gatewaykit.errors import ProviderBadAnswer, ProviderUnavailable
from gatewaykit.types import (
    Choice,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Reply,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from gatewaykit_gigachat.convert.messages import call_id
from gatewaykit_gigachat.convert.stopping import StopCutter
from gatewaykit_gigachat.convert.thinking import ThinkSplitter
from gatewaykit_gigachat.convert.translation import Translation
from gatewaykit_gigachat.convert.usage import UsageMeter

_FILTERED = frozenset({"blacklist", "request_blacklist", "response_blacklist", "request_filter", "request_whitelist"})
_BROKEN = frozenset({"error", "function_call_error"})
_STATE = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BROKE_OFF = "The model provider broke off its answer."


class AnswerReader:
    """Reads one answer. It keeps what must be kept between documents, so each answer needs a new one."""

    def __init__(self, translation: Translation) -> None:
        options = translation.options
        self._translation = translation
        self._think = ThinkSplitter() if options.think_tags else None
        self._cutter = StopCutter(translation.stop) if any(translation.stop) else None
        self._withheld: list[Event] | None = [] if translation.must_call and options.required_tool == "insist" else None
        self._passes_text = self._think is None and self._cutter is None
        self._simple = False
        self._started = False
        self._finished = False
        self._calls: list[str] = []
        self._usage = UsageMeter()

    def read(self, document: dict[str, Any]) -> list[Event]:
        """The events in one document: the data of a streamed event, or a whole answer.

        After a stop sequence the rest is read for its usage alone. Raises :class:`~gatewaykit.errors.ProviderBadAnswer`
        for what is no answer, :class:`~gatewaykit.errors.ProviderUnavailable` for an error in place of one.
        """
        if self._simple:
            try:
                (choice,) = document["choices"]
                delta = choice["delta"]
                if len(delta) == 1 and len(choice) == 2 and "index" in choice and "usage" not in document:
                    text = delta["content"]
                    if type(text) is str:
                        return [TextDelta(text)] if text else []
            except (KeyError, TypeError, ValueError, AttributeError):
                return self._read(document)
        return self._read(document)

    def end(self, *, done: bool = False) -> list[Event]:
        """The events that are left when no document follows: the usage.

        ``done`` says that the stream had its ``[DONE]``, which may stand for a missing reason. Raises
        :class:`~gatewaykit.errors.ProviderUnavailable` when the answer is not whole.
        """
        events: list[Event] = []
        if not self._finished:
            if not (done and self._started):
                raise ProviderUnavailable(_BROKE_OFF)
            self._finish("stop", events)
            events = self._released(events)
        usage = self._usage.total(self._translation.options.cached_tokens_included)
        return [*events, usage] if usage else events

    def reply(self, document: dict[str, Any]) -> Reply:
        """The whole answer in ``document``. Raises as :meth:`read` does, and for an answer that is not whole."""
        events = self.read(document)
        if not self._finished:
            raise ProviderBadAnswer(detail="the answer has no finish_reason")
        return _folded([*events, *self.end()])

    def _read(self, document: Any) -> list[Event]:
        if type(document) is not dict:
            raise ProviderBadAnswer(detail="the answer is not an object")
        choices = document.get("choices")
        if choices is None and "usage" not in document:
            raise _no_answer(document)
        events: list[Event] = []
        if not self._started:
            self._start(document, events)
        for choice in _list(choices)[:1]:
            self._choice(choice, events)
        self._usage.add(document.get("usage"))
        return self._released(events)

    def _start(self, document: dict[str, Any], events: list[Event]) -> None:
        created = document.get("created")
        if created is not None and type(created) is not int:
            raise ProviderBadAnswer(detail="created is not an integer")
        model = _string(document, "model")
        events.append(Started(model=model, created=created or 0, ignored=self._translation.ignored))
        self._started = True
        self._simple = self._passes_text and self._withheld is None

    def _choice(self, choice: Any, events: list[Event]) -> None:
        message = _member(_object(choice, "choices[0]"), "delta") or _member(choice, "message") or {}
        reason = _string(choice, "finish_reason")
        if self._finished:
            return
        if message.get("role") != "function_in_progress":
            self._message(message, events)
        if reason and not self._finished:
            self._finish(reason, events)

    def _message(self, message: dict[str, Any], events: list[Event]) -> None:
        if reasoning := _string(message, "reasoning_content"):
            events.append(ReasoningDelta(reasoning))
        if text := _string(message, "content"):
            self._text(text, events)
        call = _member(message, "function_call")
        if call is not None and not self._finished:
            self._call(call, message.get("functions_state_id"), events)

    def _text(self, text: str, events: list[Event]) -> None:
        if self._think:
            reasoning, text = self._think.feed(text)
            if reasoning:
                events.append(ReasoningDelta(reasoning))
        self._cut(text, events)

    def _cut(self, text: str, events: list[Event]) -> None:
        if self._cutter:
            text = self._cutter.feed(text)
        if text:
            events.append(TextDelta(text))
        if self._cutter and self._cutter.stopped:
            self._finish("stop", events)

    def _flush(self, events: list[Event]) -> None:
        """Let go of text that was held back because more might have changed its meaning."""
        if self._think:
            reasoning, text = self._think.flush()
            if reasoning:
                events.append(ReasoningDelta(reasoning))
            self._cut(text, events)
        if self._cutter and (text := self._cutter.flush()):
            events.append(TextDelta(text))

    def _call(self, call: dict[str, Any], state: Any, events: list[Event]) -> None:
        name = _string(call, "name")
        arguments = _arguments(call.get("arguments"))
        if not name:
            raise ProviderBadAnswer(detail="a function call has no name")
        if name == self._translation.answer_function:
            self._text(arguments, events)
            return
        self._flush(events)
        if self._finished:
            return
        name = self._translation.names.get(name, name)
        known = self._new_id(state)
        events.append(ToolCallDelta(len(self._calls), id=known, name=name, arguments=arguments))
        self._calls.append(known)

    def _new_id(self, state: Any) -> str:
        """An id that is new in the conversation and, if it can, carries the service's state."""
        if type(state) is not str or not _STATE.fullmatch(state):
            return f"call_{uuid.uuid4().hex}"
        first = call_id(state)
        later = (f"{first}_{number}" for number in itertools.count(2))
        taken = self._translation.call_ids
        return next(
            known for known in itertools.chain([first], later) if known not in taken and known not in self._calls
        )

    def _finish(self, reason: str, events: list[Event]) -> None:
        if reason in _BROKEN:
            raise ProviderBadAnswer("The model did not finish its answer: it made a tool call that is not valid.")
        if not (self._cutter and self._cutter.stopped):
            self._flush(events)
            if self._finished:
                return
        meaning = self._meaning(reason)
        if meaning == "stop" and self._withheld is not None and not self._calls:
            raise ProviderBadAnswer("The model did not call a tool, although the request demands it.")
        events.append(Finished(meaning))
        self._finished, self._simple = True, False

    def _meaning(self, reason: str) -> FinishReason:
        if reason == "length":
            return "length"
        if reason in _FILTERED:
            return "content_filter"
        return "tool_calls" if self._calls else "stop"

    def _released(self, events: list[Event]) -> list[Event]:
        """The events that may go on; while a call is insisted on, none before it."""
        if self._withheld is None:
            return events
        self._withheld += events
        if not self._calls and not self._finished:
            return []
        released, self._withheld = self._withheld, None
        self._simple = self._passes_text and not self._finished
        return released


def _no_answer(document: dict[str, Any]) -> ProviderBadAnswer | ProviderUnavailable:
    """What to make of a document without choices: the service's error object, or nothing known."""
    status = document.get("status", document.get("code"))
    if "message" in document or "error" in document:
        return ProviderUnavailable(_BROKE_OFF, detail=f"error object with status {ascii(status)[:20]}")
    return ProviderBadAnswer(detail="the answer has no choices")


def _object(value: Any, name: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise ProviderBadAnswer(detail=f"{name} is not an object")
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if type(value) is not list:
        raise ProviderBadAnswer(detail="choices is not an array")
    return value


def _member(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = document.get(name)
    return None if value is None else _object(value, name)


def _string(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise ProviderBadAnswer(detail=f"{name} is not a string")
    return value


def _arguments(value: Any) -> str:
    """The arguments of a call as JSON text; the service sends an object, some proxies text."""
    if value is None or value == "":
        return "{}"
    if type(value) is str:
        return value
    if type(value) is not dict:
        raise ProviderBadAnswer(detail="arguments are not an object")
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, RecursionError) as error:
        raise ProviderBadAnswer(detail="arguments cannot be written as JSON") from error


def _folded(events: Iterable[Event]) -> Reply:
    """One answer from its events."""
    choice, reply = Choice(), Reply()
    for event in events:
        if isinstance(event, TextDelta):
            choice.text += event.text
        elif isinstance(event, Started):
            reply.model, reply.created, reply.ignored = event.model, event.created, event.ignored
        elif isinstance(event, Finished):
            choice.finish_reason = event.reason
        elif isinstance(event, Usage):
            reply.usage = event
        elif isinstance(event, ReasoningDelta):
            choice.reasoning += event.text
        elif isinstance(event, ToolCallDelta):
            choice.tool_calls.append(ToolCall(event.id, event.name, event.arguments))
    reply.choices.append(choice)
    return reply


__all__ = ["AnswerReader"]
