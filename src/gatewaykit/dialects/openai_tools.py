"""Tools, the choice among them, and the answer's form in an OpenAI chat request.

Source: OpenAI API reference, "Create chat completion": ``tools``, ``tool_choice``, ``response_format``, and the older
``functions`` and ``function_call``.
"""

from __future__ import annotations

import re
from typing import Any

from gatewaykit.dialects.openai_fields import (
    array,
    boolean,
    document,
    filled_array,
    invalid,
    mapping,
    one_of,
    optional,
    required,
    text,
    text_of,
    unsupported,
    wrong_type,
)
from gatewaykit.types import NamedTool, ResponseFormat, Tool, ToolChoice

_CHOICES: dict[str, ToolChoice] = {"none": "none", "auto": "auto", "required": "required"}
_OLDER_CHOICES: dict[str, ToolChoice] = {"none": "none", "auto": "auto"}
_FORMATS = ("text", "json_object", "json_schema")
_FORMAT_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")

_tool_name = text_of(1, 128)
_function_type = one_of("function")


def read_tools(value: Any, name: str) -> tuple[Tool, ...]:
    """The tools; names are taken as they are, for providers have different rules and map them."""
    return tuple(_tool(item, f"{name}[{index}]") for index, item in enumerate(array(value, name)))


def _tool(item: Any, where: str) -> Tool:
    wrapper = mapping(item, where)
    required(wrapper, "type", _function_type, where)
    return _function(required(wrapper, "function", mapping, where), f"{where}.function")


def _function(function: dict[str, Any], where: str) -> Tool:
    return Tool(
        name=required(function, "name", _tool_name, where),
        description=optional(function, "description", text, where),
        parameters=optional(function, "parameters", document, where),
        strict=optional(function, "strict", boolean, where),
    )


def read_functions(value: Any, name: str) -> tuple[Tool, ...]:
    """The older list of functions, which stand there without a wrapper."""
    return tuple(
        _function(mapping(item, f"{name}[{index}]"), f"{name}[{index}]")
        for index, item in enumerate(array(value, name))
    )


def read_tool_choice(value: Any, name: str, tools: tuple[Tool, ...]) -> tuple[ToolChoice, tuple[Tool, ...]]:
    """The choice, and the tools that it leaves: the form ``allowed_tools`` narrows them."""
    if type(value) is str:
        return _choice_word(value, name, _CHOICES, tools), tools
    if type(value) is not dict:
        raise wrong_type(name, "a string or an object", value)
    kind = required(value, "type", one_of("function", "allowed_tools"), name)
    if kind == "function":
        return _named_choice(required(value, "function", mapping, name), f"{name}.function", tools), tools
    return _allowed(required(value, "allowed_tools", mapping, name), f"{name}.allowed_tools", tools)


def read_function_call(value: Any, name: str, tools: tuple[Tool, ...]) -> ToolChoice:
    """The older choice: ``none``, ``auto`` or a function by its name."""
    if type(value) is str:
        return _choice_word(value, name, _OLDER_CHOICES, tools)
    if type(value) is not dict:
        raise wrong_type(name, "a string or an object", value)
    return _named_choice(value, name, tools)


def _choice_word(value: str, name: str, words: dict[str, ToolChoice], tools: tuple[Tool, ...]) -> ToolChoice:
    if value not in words:
        raise unsupported(name, value, tuple(words))
    if value == "required" and not tools:
        raise invalid(name, "it is only allowed when tools are specified")
    return words[value]


def _named_choice(function: dict[str, Any], where: str, tools: tuple[Tool, ...]) -> NamedTool:
    chosen = required(function, "name", _tool_name, where)
    if all(tool.name != chosen for tool in tools):
        raise invalid(f"{where}.name", "there is no tool of that name in this request")
    return NamedTool(chosen)


def _allowed(allowed: dict[str, Any], where: str, tools: tuple[Tool, ...]) -> tuple[ToolChoice, tuple[Tool, ...]]:
    mode: ToolChoice = required(allowed, "mode", one_of("auto", "required"), where)
    names = set()
    for index, item in enumerate(required(allowed, "tools", filled_array, where)):
        at = f"{where}.tools[{index}]"
        wrapper = mapping(item, at)
        optional(wrapper, "type", _function_type, at)
        names.add(_named_choice(required(wrapper, "function", mapping, at), f"{at}.function", tools).name)
    return mode, tuple(tool for tool in tools if tool.name in names)


def read_response_format(value: Any, name: str) -> ResponseFormat:
    """The form of the answer; a JSON Schema comes with a name."""
    wrapper = mapping(value, name)
    kind = required(wrapper, "type", text, name)
    if kind == "text" or kind == "json_object":
        return ResponseFormat(kind)
    if kind != "json_schema":
        raise unsupported(f"{name}.type", kind, _FORMATS)
    where = f"{name}.json_schema"
    described = required(wrapper, "json_schema", mapping, name)
    optional(described, "description", text, where)
    return ResponseFormat(
        "json_schema",
        name=required(described, "name", _format_name, where),
        schema=required(described, "schema", document, where),
        strict=optional(described, "strict", boolean, where),
    )


def _format_name(value: Any, name: str) -> str:
    found = text(value, name)
    if not _FORMAT_NAME.match(found):
        raise invalid(name, "expected 1 to 64 letters, digits, underscores and dashes")
    return found
