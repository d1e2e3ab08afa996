"""The conversation of an OpenAI chat request: roles, content parts and tool calls.

Source: OpenAI API reference, "Create chat completion", ``messages``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from gatewaykit.dialects.openai_fields import (
    array,
    filled_array,
    invalid,
    mapping,
    missing,
    one_of,
    optional,
    required,
    required_text,
    text,
    text_of,
    unsupported,
    wrong_type,
)
from gatewaykit.types import AudioPart, ContentPart, FilePart, ImagePart, Message, TextPart, ToolCall

Content: TypeAlias = str | tuple[ContentPart, ...]

FUNCTION_CALL_ID = "call_function_"
"""How ids begin of calls that came as the older ``function_call``, which has none; the message's number follows."""

_PLAIN = ("user", "assistant", "system", "developer")
_file_id = text_of(1, 512)
_image_detail = one_of("auto", "low", "high", "original")
_audio_format = one_of("wav", "mp3")
_function_type = one_of("function")


def read_messages(value: Any, name: str) -> tuple[Message, ...]:
    """The messages in order, the older ``function`` role turned into ``tool``."""
    messages: list[Message] = []
    for index, item in enumerate(filled_array(value, name)):
        if type(item) is dict and len(item) == 2:
            role, content = item.get("role"), item.get("content")
            if type(content) is str and role in _PLAIN:
                messages.append(Message(role, content))
                continue
        messages.append(_message(item, f"{name}[{index}]", index, messages))
    return tuple(messages)


def _message(item: Any, where: str, index: int, earlier: list[Message]) -> Message:
    document = mapping(item, where)
    role: Any = required_text(document, "role", where)
    if role == "assistant":
        return _assistant(document, where, index)
    if role == "function":
        return _function_result(document, where, earlier)
    kinds = _PARTS_BY_ROLE.get(role)
    if kinds is None:
        raise unsupported(f"{where}.role", role, (*_PARTS_BY_ROLE, "function"))
    return Message(
        role=role,
        content=_content(document, where, kinds),
        tool_call_id=required_text(document, "tool_call_id", where, 1) if role == "tool" else None,
        name=optional(document, "name", text, where),
    )


def _assistant(document: dict[str, Any], where: str, index: int) -> Message:
    """An answer of the model. A refusal becomes its text; sound is known by id only and leaves no text."""
    calls = _tool_calls(document, where)
    call = optional(document, "function_call", mapping, where)
    if call is not None and not calls:
        calls = (_called(call, f"{FUNCTION_CALL_ID}{index}", f"{where}.function_call"),)
    refusal = optional(document, "refusal", text, where)
    silent = calls or refusal is not None or document.get("audio") is not None
    if silent and document.get("content") is None:
        content: Content = refusal or ""
    else:
        content = _content(document, where, _PARTS_BY_ROLE["assistant"])
    return Message("assistant", content, tool_calls=calls, name=optional(document, "name", text, where))


def _function_result(document: dict[str, Any], where: str, earlier: list[Message]) -> Message:
    """The older form of a tool's result, which names the function: it belongs to the last call of that name."""
    name = required_text(document, "name", where, 1)
    for message in reversed(earlier):
        for call in message.tool_calls:
            if call.name == name:
                content = optional(document, "content", text, where) or ""
                return Message("tool", content, tool_call_id=call.id, name=name)
    raise invalid(f"{where}.name", "a message with role 'function' must follow an assistant message that calls it")


def _tool_calls(document: dict[str, Any], where: str) -> tuple[ToolCall, ...]:
    items = document.get("tool_calls")
    if items is None:
        return ()
    where = f"{where}.tool_calls"
    return tuple([_tool_call(item, f"{where}[{index}]") for index, item in enumerate(array(items, where))])


def _tool_call(item: Any, where: str) -> ToolCall:
    document = mapping(item, where)
    call_id = required_text(document, "id", where, 1)
    if document.get("type") != "function":
        optional(document, "type", _function_type, where)
    return _called(required(document, "function", mapping, where), call_id, f"{where}.function")


def _called(function: dict[str, Any], call_id: str, where: str) -> ToolCall:
    return ToolCall(
        id=call_id,
        name=required_text(function, "name", where, 1),
        arguments=required_text(function, "arguments", where),
    )


# content


def _content(document: dict[str, Any], where: str, kinds: tuple[str, ...]) -> Content:
    content = document.get("content")
    where = f"{where}.content"
    if type(content) is str:
        return content
    if content is None:
        raise missing(where)
    if type(content) is not list:
        raise wrong_type(where, "a string or an array of content parts", content)
    return tuple([_part(item, f"{where}[{index}]", kinds) for index, item in enumerate(filled_array(content, where))])


def _part(item: Any, where: str, kinds: tuple[str, ...]) -> ContentPart:
    document = mapping(item, where)
    kind = required_text(document, "type", where)
    if kind not in kinds:
        raise unsupported(f"{where}.type", kind, kinds)
    return _PARTS[kind](document, where)


def _text_part(document: dict[str, Any], where: str) -> TextPart:
    return TextPart(required_text(document, "text", where))


def _refusal_part(document: dict[str, Any], where: str) -> TextPart:
    return TextPart(required_text(document, "refusal", where))


def _image_part(document: dict[str, Any], where: str) -> ImagePart:
    image = required(document, "image_url", mapping, where)
    where = f"{where}.image_url"
    url = required_text(image, "url", where)
    if not url[:8].lower().startswith(("data:", "https://", "http://")):
        raise invalid(f"{where}.url", "expected a data URL or an http(s) address")
    return ImagePart(url, optional(image, "detail", _image_detail, where))


def _audio_part(document: dict[str, Any], where: str) -> AudioPart:
    audio = required(document, "input_audio", mapping, where)
    where = f"{where}.input_audio"
    return AudioPart(required_text(audio, "data", where), required(audio, "format", _audio_format, where))


def _file_part(document: dict[str, Any], where: str) -> FilePart:
    file = required(document, "file", mapping, where)
    where = f"{where}.file"
    file_id = optional(file, "file_id", _file_id, where)
    data = optional(file, "file_data", text, where)
    if file_id is None and data is None:
        raise missing(f"{where}.file_id")
    return FilePart(file_id, data, optional(file, "filename", text, where))


_PARTS: dict[str, Callable[[dict[str, Any], str], ContentPart]] = {
    "text": _text_part,
    "refusal": _refusal_part,
    "image_url": _image_part,
    "input_audio": _audio_part,
    "file": _file_part,
}

_PARTS_BY_ROLE: dict[str, tuple[str, ...]] = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
}
