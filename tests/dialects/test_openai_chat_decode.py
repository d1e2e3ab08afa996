"""What an OpenAI chat request becomes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from msgspec import structs

from gatewaykit.dialects import OpenAIChat
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


def test_null_means_not_given() -> None:
    """A request whose every optional field is null equals the request without them."""
    optional = {field.name for field in structs.fields(ChatRequest)} - {"model", "messages"}
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


@pytest.mark.parametrize("kind", ["text", "json_object"])
def test_a_response_format_may_be_its_type_alone(kind: Literal["text", "json_object"]) -> None:
    """Plain text and free-form JSON are asked for by the type and nothing else."""
    assert decode(response_format={"type": kind}).response_format == ResponseFormat(kind)


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
    assert type(structs.replace(request, model="other")) is type(request)
    assert type(request) is not type(decode())


def test_the_session_is_the_header() -> None:
    """``X-Session-ID`` names the conversation; without it, or empty, there is no name."""
    body = msgspec.json.encode({"model": "m", "messages": HELLO})

    def session(**headers: str) -> str | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return OpenAIChat().decode(structs.replace(INCOMING, headers=named), body).session

    assert session() is None
    assert session(x_session_id="") is None
    assert session(x_session_id="chat-42") == "chat-42"
    assert session(x_session_id="s" * 256) == "s" * 256
