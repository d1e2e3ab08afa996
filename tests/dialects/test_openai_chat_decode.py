"""What an OpenAI chat request becomes, and how each wrong field is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatewaykit.dialects import OpenAIChat
from gatewaykit.errors import BadRequest
from gatewaykit.types import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Incoming,
    Message,
    NamedTool,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
)

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


def test_null_means_not_given() -> None:
    """A request whose every optional field is null equals the request without them."""
    optional = {field.name for field in dataclasses.fields(ChatRequest)} - {"model", "messages"}
    optional |= {"stream_options", "functions", "function_call", "max_completion_tokens", "logit_bias", "metadata"}
    assert decode(**dict.fromkeys(optional)) == decode()


def test_every_field_arrives() -> None:
    """Each field that the gateway knows arrives under its own word."""
    request = decode(
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "add"}},
        parallel_tool_calls=False,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "o", "schema": {"type": "object"}, "strict": True},
        },
        temperature=0,
        top_p=1,
        max_tokens=10,
        stop=["a", "b"],
        n=2,
        seed=-7,
        frequency_penalty=-2,
        presence_penalty=2.0,
        logprobs=True,
        top_logprobs=20,
        reasoning_effort="low",
        user="u",
    )
    assert request == ChatRequest(
        model="m",
        messages=(Message("user", "Hi"),),
        stream=True,
        include_usage=True,
        tools=(Tool("add", parameters={"type": "object"}),),
        tool_choice=NamedTool("add"),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", "o", {"type": "object"}, True),
        temperature=0.0,
        top_p=1.0,
        max_tokens=10,
        stop=("a", "b"),
        n=2,
        seed=-7,
        frequency_penalty=-2.0,
        presence_penalty=2.0,
        logprobs=True,
        top_logprobs=20,
        reasoning_effort="low",
        user="u",
    )


def test_fields_without_a_word_are_kept() -> None:
    """Unknown fields, and those for which the gateway has no word, stand in ``extra`` as they came."""
    fields = {
        "logit_bias": {"50": -100},
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "flex",
        "own_idea": [1],
    }
    assert decode(**fields).extra == fields


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"role": "developer", "content": "Be brief."}, Message("developer", "Be brief.")),
        ({"role": "system", "content": [{"type": "text", "text": "a"}]}, Message("system", (TextPart("a"),))),
        ({"role": "user", "content": "", "name": "Ann"}, Message("user", "", name="Ann")),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, None),
        ({"role": "assistant", "tool_calls": [CALL]}, None),
        ({"role": "assistant", "content": "Hm", "tool_calls": []}, Message("assistant", "Hm")),
        ({"role": "assistant", "content": None, "refusal": "No."}, Message("assistant", "No.")),
        ({"role": "assistant", "audio": {"id": "audio_1"}}, Message("assistant", "")),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            Message("assistant", (TextPart("a"), TextPart("b"))),
        ),
        ({"role": "tool", "content": "3", "tool_call_id": "call_1"}, Message("tool", "3", tool_call_id="call_1")),
    ],
)
def test_each_role_is_understood(document: dict[str, Any], message: Message | None) -> None:
    """Every role of the API, with every form of content, becomes the message that it says."""
    wanted = message or Message("assistant", "", (ToolCall("call_1", "add", '{"a": 1}'),))
    assert decode(messages=[document]).messages == (wanted,)


def test_each_content_part_is_understood() -> None:
    """Text, images, sound and files arrive as parts, in order."""
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AA==", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "AA==", "filename": "a.pdf"}},
    ]
    assert decode(messages=[{"role": "user", "content": content}]).messages[0].content == (
        TextPart("Look"),
        ImagePart("DATA:image/png;base64,AA==", "low"),
        ImagePart("https://example.com/cat.png"),
        AudioPart("AA==", "wav"),
        FilePart(file_id="file-1"),
        FilePart(data="AA==", filename="a.pdf"),
    )


def test_the_newer_token_limit_wins() -> None:
    """``max_completion_tokens`` is taken over ``max_tokens``, and each of them alone."""
    assert decode(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert decode(max_completion_tokens=7).max_tokens == 7
    assert decode(max_tokens=5).max_tokens == 5


def test_stop_may_be_one_string() -> None:
    """``stop`` takes one string as well as a list of up to four."""
    assert decode(stop="END").stop == ("END",)
    assert decode(stop=["a", "b", "c", "d"]).stop == ("a", "b", "c", "d")
    assert decode(stop=[]).stop == ()


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
def test_a_tool_choice_may_be_a_word(choice: str) -> None:
    """The words of ``tool_choice`` are kept."""
    assert decode(tools=[TOOL], tool_choice=choice).tool_choice == choice


def test_allowed_tools_narrow_the_tools() -> None:
    """``allowed_tools`` leaves the named tools only, with its mode as the choice."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")]
    allowed = {"mode": "required", "tools": [tools[2], {"function": {"name": "a"}}]}
    request = decode(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool.name for tool in request.tools] == ["a", "c"]
    assert request.tool_choice == "required"


def test_the_older_functions_become_tools() -> None:
    """``functions``, ``function_call`` and ``function`` messages are said in the words of tools."""
    call = {"name": "add", "arguments": "{}"}
    request = decode(
        functions=[{"name": "add", "description": "d", "parameters": {"type": "object"}}],
        function_call={"name": "add"},
        messages=[
            *HELLO,
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "add", "content": "3"},
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "add", "content": None},
        ],
    )
    assert request.tools == (Tool("add", "d", {"type": "object"}),)
    assert request.tool_choice == NamedTool("add")
    assert request.parallel_tool_calls is False
    calls = [call.id for message in request.messages for call in message.tool_calls]
    results = [message.tool_call_id for message in request.messages if message.role == "tool"]
    assert calls == results
    assert len(set(calls)) == 2
    assert request.extra == {}


def test_a_changed_request_keeps_its_kind() -> None:
    """A transform's copy of a request with the older functions is still answered in their form."""
    request = decode(functions=[{"name": "add"}])
    assert type(dataclasses.replace(request, model="other")) is type(request)
    assert type(request) is not type(decode())


def test_the_session_is_the_header() -> None:
    """``X-Session-ID`` names the conversation; without it, or empty, there is no name."""
    body = msgspec.json.encode({"model": "m", "messages": HELLO})

    def session(**headers: str) -> str | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return OpenAIChat().decode(dataclasses.replace(INCOMING, headers=named), body).session

    assert session() is None
    assert session(x_session_id="") is None
    assert session(x_session_id="chat-42") == "chat-42"
    assert session(x_session_id="s" * 256) == "s" * 256


@pytest.mark.parametrize("session", ["s" * 257, "two, of them", "tab\t", "é"])
def test_a_session_of_other_characters_is_refused(session: str, incoming: Callable[..., Incoming]) -> None:
    """A session's name longer than 256 characters, or with invisible ones, is refused under the header's name."""
    with pytest.raises(BadRequest) as caught:
        OpenAIChat().decode(incoming(x_session_id=session), msgspec.json.encode({"model": "m", "messages": HELLO}))
    assert caught.value.param == "x-session-id"
