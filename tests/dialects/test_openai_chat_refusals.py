"""How each wrong field of an OpenAI chat request is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatewaykit.dialects import OpenAIChat
from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, Incoming

HELLO = [{"role": "user", "content": "Hi"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
INCOMING = Incoming("POST", "/v1/chat/completions", {}, None, "id")


def decode(**fields: Any) -> ChatRequest:
    return decode_bytes(msgspec.json.encode({"model": "m", "messages": HELLO, **fields}))


def decode_bytes(body: bytes) -> ChatRequest:
    return OpenAIChat().decode(INCOMING, body)


def part(**document: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [document]}]


def turn(**document: Any) -> list[dict[str, Any]]:
    return [*HELLO, document]


def assistant(**document: Any) -> list[dict[str, Any]]:
    return turn(role="assistant", **document)


def calling(**changes: Any) -> list[dict[str, Any]]:
    return assistant(tool_calls=[{**CALL, **changes}])


def tool(**changes: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "add", **changes}}]


def schema(**changes: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "out", "schema": {}, **changes}}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": [value]}
    return value


BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "Missing required parameter: 'model'."),
    ({"model": 5}, "model", "expected a string, but got an integer"),
    ({"model": ""}, "model", "too short"),
    ({"model": "m" * 257}, "model", "too long"),
    ({"messages": None}, "messages", "Missing required parameter"),
    ({"messages": []}, "messages", "empty array"),
    ({"messages": "Hi"}, "messages", "expected an array, but got a string"),
    ({"messages": ["Hi"]}, "messages[0]", "expected an object, but got a string"),
    ({"messages": [None]}, "messages[0]", "expected an object, but got null"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role", "Missing required parameter"),
    ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0].role", "expected a string, but got an array"),
    ({"messages": turn(role="robot", content="Hi")}, "messages[1].role", "Supported values are: 'system', 'developer'"),
    ({"messages": turn(role="user")}, "messages[1].content", "Missing required parameter"),
    ({"messages": turn(role="user", content=None)}, "messages[1].content", "Missing required parameter"),
    ({"messages": turn(role="user", content=1.5)}, "messages[1].content", "but got a decimal number"),
    ({"messages": turn(role="user", content=[])}, "messages[1].content", "empty array"),
    ({"messages": turn(role="user", content="Hi", name=1)}, "messages[1].name", "expected a string"),
    ({"messages": turn(role="tool", content="3")}, "messages[1].tool_call_id", "Missing required parameter"),
    ({"messages": turn(role="tool", content="3", tool_call_id="")}, "messages[1].tool_call_id", "too short"),
    ({"messages": turn(role="tool", content="3", tool_call_id=7)}, "messages[1].tool_call_id", "expected a string"),
    ({"messages": turn(role="tool", tool_call_id="c")}, "messages[1].content", "Missing required parameter"),
    ({"messages": assistant()}, "messages[1].content", "Missing required parameter"),
    ({"messages": assistant(content=None, tool_calls=[])}, "messages[1].content", "Missing required parameter"),
    ({"messages": assistant(tool_calls={})}, "messages[1].tool_calls", "expected an array"),
    ({"messages": assistant(tool_calls=False)}, "messages[1].tool_calls", "expected an array"),
    ({"messages": assistant(tool_calls=[1])}, "messages[1].tool_calls[0]", "expected an object"),
    ({"messages": calling(id=None)}, "messages[1].tool_calls[0].id", "Missing required parameter"),
    ({"messages": calling(type="custom")}, "messages[1].tool_calls[0].type", "Supported values are: 'function'"),
    ({"messages": calling(function=None)}, "messages[1].tool_calls[0].function", "Missing required parameter"),
    ({"messages": calling(function={"arguments": ""})}, "messages[1].tool_calls[0].function.name", "Missing"),
    ({"messages": calling(function={"name": "f"})}, "messages[1].tool_calls[0].function.arguments", "Missing"),
    (
        {"messages": calling(function={"name": "f", "arguments": {}})},
        "messages[1].tool_calls[0].function.arguments",
        "",
    ),
    ({"messages": assistant(refusal=1)}, "messages[1].refusal", "expected a string"),
    ({"messages": assistant(function_call="f")}, "messages[1].function_call", "expected an object"),
    ({"messages": assistant(function_call={"name": "f"})}, "messages[1].function_call.arguments", "Missing"),
    ({"messages": turn(role="function", content="3")}, "messages[1].name", "Missing required parameter"),
    ({"messages": turn(role="function", name="f", content="3")}, "messages[1].name", "must follow"),
    ({"messages": part(text="Hi")}, "messages[0].content[0].type", "Missing required parameter"),
    ({"messages": part(type="video")}, "messages[0].content[0].type", "'text', 'image_url', 'input_audio' and 'file'"),
    ({"messages": part(type="refusal", refusal="no")}, "messages[0].content[0].type", "Supported values"),
    ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]", "expected an object"),
    ({"messages": part(type="text")}, "messages[0].content[0].text", "Missing required parameter"),
    ({"messages": part(type="text", text=1)}, "messages[0].content[0].text", "expected a string"),
    ({"messages": part(type="image_url")}, "messages[0].content[0].image_url", "Missing required parameter"),
    ({"messages": part(type="image_url", image_url="u")}, "messages[0].content[0].image_url", "expected an object"),
    ({"messages": part(type="image_url", image_url={})}, "messages[0].content[0].image_url.url", "Missing"),
    ({"messages": part(type="image_url", image_url={"url": "file:///x"})}, "messages[0].content[0].image_url.url", ""),
    (
        {"messages": part(type="image_url", image_url={"url": "http://x", "detail": "huge"})},
        "messages[0].content[0].image_url.detail",
        "Supported values are: 'auto', 'low', 'high' and 'original'",
    ),
    ({"messages": part(type="input_audio")}, "messages[0].content[0].input_audio", "Missing"),
    ({"messages": part(type="input_audio", input_audio={})}, "messages[0].content[0].input_audio.data", "Missing"),
    (
        {"messages": part(type="input_audio", input_audio={"data": "", "format": "ogg"})},
        "messages[0].content[0].input_audio.format",
        "Supported values are: 'wav' and 'mp3'",
    ),
    ({"messages": part(type="file")}, "messages[0].content[0].file", "Missing required parameter"),
    ({"messages": part(type="file", file={})}, "messages[0].content[0].file.file_id", "Missing required parameter"),
    ({"messages": part(type="file", file={"file_data": 1})}, "messages[0].content[0].file.file_data", "a string"),
    ({"messages": turn(role="system", content=[{"type": "file"}])}, "messages[1].content[0].type", "are: 'text'."),
    ({"stream": "yes"}, "stream", "expected a boolean, but got a string"),
    ({"stream": 1}, "stream", "expected a boolean, but got an integer"),
    ({"stream_options": {}}, "stream_options", "only allowed when 'stream' is enabled"),
    ({"stream_options": {"include_usage": True}, "stream": False}, "stream_options", "only allowed when 'stream'"),
    ({"stream_options": True, "stream": True}, "stream_options", "expected an object"),
    ({"stream_options": {"include_usage": 1}, "stream": True}, "stream_options.include_usage", "expected a boolean"),
    ({"temperature": 2.1}, "temperature", "Expected a value <= 2, but got 2.1 instead"),
    ({"temperature": -1}, "temperature", "Expected a value >= 0, but got -1 instead"),
    ({"temperature": "1"}, "temperature", "expected a decimal, but got a string"),
    ({"temperature": True}, "temperature", "expected a decimal, but got a boolean"),
    ({"temperature": 10**400}, "temperature", "above maximum value"),
    ({"top_p": 1.01}, "top_p", "above maximum value"),
    ({"top_p": -0.01}, "top_p", "below minimum value"),
    ({"frequency_penalty": 2.5}, "frequency_penalty", "above maximum value"),
    ({"presence_penalty": -2.5}, "presence_penalty", "below minimum value"),
    ({"max_tokens": 0}, "max_tokens", "below minimum value"),
    ({"max_tokens": 1.0}, "max_tokens", "expected an integer, but got a decimal number"),
    ({"max_tokens": True}, "max_tokens", "expected an integer, but got a boolean"),
    ({"max_tokens": 2**63}, "max_tokens", "above maximum value"),
    ({"max_completion_tokens": -5}, "max_completion_tokens", "below minimum value"),
    ({"n": 0}, "n", "below minimum value"),
    ({"n": 129}, "n", "above maximum value"),
    ({"seed": 1.5}, "seed", "expected an integer"),
    ({"seed": -(2**63) - 1}, "seed", "below minimum value"),
    ({"stop": 5}, "stop", "expected a string or an array of strings"),
    ({"stop": ["a"] * 5}, "stop", "maximum length 4"),
    ({"stop": ["a", 1]}, "stop[1]", "expected a string"),
    ({"stop": ["a", None]}, "stop[1]", "expected a string, but got null"),
    ({"stop": ""}, "stop", "too short"),
    ({"logprobs": 1}, "logprobs", "expected a boolean"),
    ({"top_logprobs": 5}, "top_logprobs", "only allowed when 'logprobs' is enabled"),
    ({"top_logprobs": 5, "logprobs": False}, "top_logprobs", "only allowed when 'logprobs' is enabled"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "above maximum value"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "'none', 'minimal', 'low', 'medium', 'high', 'xhigh' and 'max'"),
    ({"user": 7}, "user", "expected a string"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "expected a boolean"),
    ({"tools": {}}, "tools", "expected an array"),
    ({"tools": [1]}, "tools[0]", "expected an object"),
    ({"tools": [{"function": {}}]}, "tools[0].type", "Missing required parameter"),
    ({"tools": [{"type": "custom"}]}, "tools[0].type", "Supported values are: 'function'"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "Missing required parameter"),
    ({"tools": tool(name=None)}, "tools[0].function.name", "Missing required parameter"),
    ({"tools": tool(name="")}, "tools[0].function.name", "too short"),
    ({"tools": tool(name="f" * 129)}, "tools[0].function.name", "too long"),
    ({"tools": tool(description=1)}, "tools[0].function.description", "expected a string"),
    ({"tools": tool(parameters=[])}, "tools[0].function.parameters", "expected an object"),
    ({"tools": tool(parameters=nested(60))}, "tools[0].function.parameters", "nested too deep"),
    ({"tools": tool(strict="yes")}, "tools[0].function.strict", "expected a boolean"),
    ({"tool_choice": 5}, "tool_choice", "expected a string or an object"),
    ({"tool_choice": "some"}, "tool_choice", "Supported values are: 'none', 'auto' and 'required'"),
    ({"tool_choice": "required"}, "tool_choice", "only allowed when tools are specified"),
    ({"tool_choice": {}}, "tool_choice.type", "Missing required parameter"),
    ({"tool_choice": {"type": "custom"}}, "tool_choice.type", "Supported values"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function", "Missing required parameter"),
    ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name", "Missing"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice.function.name", "no tool"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools", "Missing required parameter"),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "none"}}},
        "tool_choice.allowed_tools.mode",
        "Supported values",
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
        "tool_choice.allowed_tools.tools",
        "empty array",
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}},
        "tool_choice.allowed_tools.tools[0].function.name",
        "no tool of that name",
    ),
    ({"functions": "f"}, "functions", "expected an array"),
    ({"functions": [{}]}, "functions[0].name", "Missing required parameter"),
    ({"functions": [{"name": "f"}], "tools": [TOOL]}, "tools", "not allowed together"),
    ({"functions": [{"name": "f"}], "function_call": "required"}, "function_call", "are: 'none' and 'auto'"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name", "no tool of that name"),
    ({"function_call": 1}, "function_call", "expected a string or an object"),
    ({"response_format": "json"}, "response_format", "expected an object"),
    ({"response_format": {}}, "response_format.type", "Missing required parameter"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "'text', 'json_object' and 'json_schema'"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "Missing required parameter"),
    ({"response_format": schema(name=None)}, "response_format.json_schema.name", "Missing required parameter"),
    ({"response_format": schema(name="a b")}, "response_format.json_schema.name", "letters, digits"),
    ({"response_format": schema(name="a\n")}, "response_format.json_schema.name", "letters, digits"),
    ({"response_format": schema(name="a" * 65)}, "response_format.json_schema.name", "letters, digits"),
    ({"response_format": schema(schema=None)}, "response_format.json_schema.schema", "Missing required parameter"),
    ({"response_format": schema(schema=[])}, "response_format.json_schema.schema", "expected an object"),
    ({"response_format": schema(schema=nested(60))}, "response_format.json_schema.schema", "nested too deep"),
    ({"response_format": schema(strict=1)}, "response_format.json_schema.strict", "expected a boolean"),
    ({"response_format": schema(description=1)}, "response_format.json_schema.description", "expected a string"),
    ({"metadata": nested(60)}, "metadata", "nested too deep"),
]


@pytest.mark.parametrize(("fields", "param", "words"), BAD_FIELDS)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, words: str) -> None:
    """Each wrong value is refused with the exact name of its field and words that say what is wrong."""
    with pytest.raises(BadRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b'{"model"', "not valid JSON"),
        (b'{"model": "m",}', "(byte 14)"),
        (b'{"temperature": NaN}', "(byte 16)"),
        (b'{"temperature": Infinity}', "(byte 16)"),
        (b'{"temperature": 1e999}', "out of range"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "out of range"),
        (b'{"model": "\\ud800 alone"}', "surrogate"),
        (b'\xef\xbb\xbf{"model": "m"}', "(byte 0)"),
        (b'{"model": "\xff"}', "not valid UTF-8 (byte 11)"),
        (b'{"model": "\xed\xa0\x80"}', "not valid UTF-8 (byte 11)"),
        (b'{"model": "\\u00e9\\n\xff"}', "not valid UTF-8 (byte 19)"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[]", "expected an object, but got an array"),
        (b'"model"', "expected an object, but got a string"),
        (b"null", "expected an object, but got null"),
        (b"{}", "Missing required parameter: 'model'"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes, words: str) -> None:
    """A body that is not a JSON object is refused in words that say why and, for bad bytes, where."""
    with pytest.raises(BadRequest) as caught:
        decode_bytes(body)
    assert words in caught.value.message


def test_a_refusal_repeats_no_more_than_a_line() -> None:
    """A huge or unprintable value does not come back whole in the error that refuses it."""
    for value in ("x" * 100_000, "\x1b[31m\n" * 1000):
        with pytest.raises(BadRequest) as caught:
            decode(reasoning_effort=value)
        assert len(caught.value.message) < 600
        assert caught.value.message.isprintable()
    with pytest.raises(BadRequest) as caught:
        decode(temperature=10**4000)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("session", ["s" * 257, "two, of them", "tab\t", "é"])
def test_a_session_of_other_characters_is_refused(session: str, incoming: Callable[..., Incoming]) -> None:
    """A session's name longer than 256 characters, or with invisible ones, is refused under the header's name."""
    with pytest.raises(BadRequest) as caught:
        OpenAIChat().decode(incoming(x_session_id=session), msgspec.json.encode({"model": "m", "messages": HELLO}))
    assert caught.value.param == "x-session-id"
