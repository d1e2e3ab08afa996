"""From the gateway's request to OpenAI's JSON. Source: OpenAI API reference, "Create chat completion"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gatewaykit.types import (
    AudioPart,
    ChatRequest,
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    NamedTool,
    ResponseFormat,
    TextPart,
    Tool,
)

from .body import merged

_SAME_NAMES = (
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "user",
)


def encode_chat(
    request: ChatRequest, model: str, *, stream: bool, ask_for_usage: bool = False, length_field: str = "max_tokens"
) -> bytes:
    """The request body. What the client did not say is left out; ``extra`` fills in what has no word in the gateway."""
    document: dict[str, Any] = {"model": model, "messages": [_message(message) for message in request.messages]}
    if stream:
        document["stream"] = True
        if request.include_usage or ask_for_usage:
            document["stream_options"] = {"include_usage": True}
    if request.tools:
        document["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        document["tool_choice"] = _tool_choice(request.tool_choice)
    if request.response_format is not None:
        document["response_format"] = _response_format(request.response_format)
    if request.max_tokens is not None:
        document[length_field] = request.max_tokens
    if request.stop:
        document["stop"] = request.stop
    if request.n != 1:
        document["n"] = request.n
    given = ((name, getattr(request, name)) for name in _SAME_NAMES)
    document.update((name, value) for name, value in given if value is not None)
    return msgspec.json.encode(merged(document, request.extra))


def _message(message: Message) -> Mapping[str, Any]:
    document: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.name is not None:
        document["name"] = message.name
    if message.tool_calls:
        document["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        document["tool_call_id"] = message.tool_call_id
    return document


def _content(message: Message) -> Any:
    """Text, parts, or null where tool calls stand in the text's place."""
    if isinstance(message.content, tuple):
        return [_part(part) for part in message.content]
    return message.content or (None if message.tool_calls else "")


def _part(part: ContentPart) -> Mapping[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": _given(url=part.url, detail=part.detail)}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case FilePart():
            file = _given(file_id=part.file_id, file_data=part.data, filename=part.filename)
            return {"type": "file", "file": file}


def _tool(tool: Tool) -> Mapping[str, Any]:
    function = _given(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return {"type": "function", "function": function}


def _tool_choice(choice: str | NamedTool) -> Any:
    return choice if isinstance(choice, str) else {"type": "function", "function": {"name": choice.name}}


def _response_format(wanted: ResponseFormat) -> Mapping[str, Any]:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    schema = _given(name=wanted.name or "answer", schema=wanted.schema, strict=wanted.strict)
    return {"type": wanted.type, "json_schema": schema}


def _given(**fields: Any) -> Mapping[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
