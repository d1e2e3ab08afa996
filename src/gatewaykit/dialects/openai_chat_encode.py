"""From events and replies to OpenAI's ``chat.completion.chunk`` and ``chat.completion``.

Source: OpenAI API reference, "The chat completion object" and "The chat completion chunk object". Beyond it, as other
servers of this format do, a model's thoughts are ``reasoning_content``.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from gatewaykit.dialects.openai_chat_decode import FunctionsRequest
from gatewaykit.dialects.openai_errors import encode_error
from gatewaykit.errors import GatewayError
from gatewaykit.protocols import Encoder
from gatewaykit.types import (
    Call,
    Choice,
    Event,
    Finished,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

_encode = msgspec.json.Encoder().encode


def _json(value: Any) -> bytes:
    """``value`` as JSON; halves of surrogate pairs are joined, or replaced when the other half is missing."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_whole_characters(value))


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_characters(item) for item in value]
    return value


def _made_id(call: Call) -> str:
    return f"chatcmpl-{call.request_id.replace('-', '')}"


class ChunkEncoder(Encoder):
    """The chunks of one stream.

    Chunks of text differ in nothing but their text, so the rest is written once: ``_text`` has the bytes before it, for
    each choice whose first delta, with its role, is out.
    """

    def __init__(self, call: Call) -> None:
        chat = call.chat
        self._older = isinstance(chat, FunctionsRequest)
        self._usage = chat.include_usage
        self._choices = chat.n
        self._begun: set[tuple[int, int]] = set()
        self._text: dict[int, bytes] = {}
        self._end = b'},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
        if not self._usage:
            self._end = self._end.replace(b',"usage":null', b"")
        self._id, self._created, self._model = _made_id(call), int(time.time()), chat.model
        self._head = self._write_head()

    def encode(self, event: Event) -> bytes:
        """The frames for ``event``; those of :class:`Raw` pass as they are."""
        if isinstance(event, Raw):
            return event.data
        if isinstance(event, TextDelta):
            before = self._text.get(event.choice)
            if before is not None and event.logprobs is None:
                try:
                    return before + _encode(event.text) + self._end
                except UnicodeEncodeError:
                    return before + _json(event.text) + self._end
            return self._delta(event.choice, {"content": event.text}, logprobs=event.logprobs)
        return self._encode_other(event)

    def finish(self) -> bytes:
        """The end mark of a stream that ended well."""
        return b"data: [DONE]\n\n"

    def fail(self, error: GatewayError) -> bytes:
        """The frame that the official SDKs raise as an error; no end mark follows it."""
        return b"data: " + encode_error(error) + b"\n\n"

    def _encode_other(self, event: Event) -> bytes:
        if isinstance(event, ToolCallDelta):
            return self._tool_call(event)
        if isinstance(event, ReasoningDelta):
            return self._delta(event.choice, {"reasoning_content": event.text})
        if isinstance(event, RefusalDelta):
            return self._delta(event.choice, {"refusal": event.text})
        if isinstance(event, Finished):
            return self._delta(event.choice, {}, finish_reason=_finish_reason(event.reason, self._older))
        if isinstance(event, Usage) and self._usage:
            return self._head + b'],"usage":' + _json(_usage(event)) + b"}\n\n"
        if isinstance(event, Started):
            self._start(event)
        return b""

    def _start(self, event: Started) -> None:
        self._id = event.id or self._id
        self._created = event.created or self._created
        self._model = event.model or self._model
        self._head = self._write_head()

    def _write_head(self) -> bytes:
        head = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        return b"data: " + _json(head)[:-1] + b',"choices":['

    def _tool_call(self, event: ToolCallDelta) -> bytes:
        """One call's next fragment: id, type and name in the first only, for clients join what they get."""
        first = (event.choice, event.index) not in self._begun
        self._begun.add((event.choice, event.index))
        function = {"name": event.name, "arguments": event.arguments} if first else {"arguments": event.arguments}
        if self._older:
            return self._delta(event.choice, {"function_call": function}) if event.index == 0 else b""
        identity = {"id": event.id, "type": "function"} if first else {}
        return self._delta(event.choice, {"tool_calls": [{"index": event.index, **identity, "function": function}]})

    def _delta(
        self, choice: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
    ) -> bytes:
        opening = b"" if choice in self._text else self._open(choice, "" if "content" in delta or not delta else None)
        return opening + self._chunk(choice, delta, logprobs, finish_reason)

    def _open(self, choice: int, content: str | None) -> bytes:
        """The first deltas of ``choice`` and of the choices before it, for clients expect them in order."""
        frames = b""
        for index in (*range(min(choice, self._choices)), choice):
            if index not in self._text:
                self._text[index] = self._head + b'{"index":%d,"delta":{"content":' % index
                first = {"role": "assistant", "content": content if index == choice else None, "refusal": None}
                frames += self._chunk(index, first, None, None)
        return frames

    def _chunk(self, choice: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> bytes:
        body = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._head + _json(body) + (b'],"usage":null}\n\n' if self._usage else b"]}\n\n")


def encode_completion(call: Call, reply: Reply) -> bytes:
    """A ``chat.completion``."""
    chat = call.chat
    older = isinstance(chat, FunctionsRequest)
    document = {
        "id": reply.id or _made_id(call),
        "object": "chat.completion",
        "created": reply.created or int(time.time()),
        "model": reply.model or chat.model,
        "choices": [_choice(choice, older) for choice in reply.choices],
    }
    if reply.usage is not None:
        document["usage"] = _usage(reply.usage)
    return _json(document)


def _choice(choice: Choice, older: bool) -> dict[str, Any]:
    text, refusal, calls = choice.text, choice.refusal, choice.tool_calls
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls or refusal else ""),
        "refusal": refusal or None,
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if calls and older:
        message["function_call"] = _function(calls[0])
    elif calls:
        message["tool_calls"] = [{"id": call.id, "type": "function", "function": _function(call)} for call in calls]
    return {
        "index": choice.index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": _finish_reason(choice.finish_reason, older) if older else choice.finish_reason,
    }


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _finish_reason(reason: str, older: bool) -> str:
    return "function_call" if older and reason == "tool_calls" else reason


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
