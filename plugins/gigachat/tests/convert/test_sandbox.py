"""Translated requests against the sandbox, which refuses what the service refuses."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from gatewaykit.sse import DONE, payloads
from gatewaykit.types import (
    ChatRequest,
    Finished,
    ImagePart,
    Message,
    NamedTool,
    ResponseFormat,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from gatewaykit_gigachat.convert import AnswerReader, ConvertOptions, translate
from gatewaykit_gigachat.sandbox import B2B, running_sandbox

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
CAT, DOG = ImagePart("https://example.org/cat.png"), ImagePart("https://example.org/dog.png")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "where": {"$ref": "#/$defs/Place"}, "any": {"type": "object"}},
    "required": ["city"],
    "$defs": {"Place": {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, {"type": "null"}]}},
}
TOOLS = (Tool("search/docs", "Finds", SCHEMA), Tool("получить погоду"), Tool("web_search", "Mine", SCHEMA))
Post = Callable[[dict[str, Any]], httpx.Response]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running_sandbox() as running, httpx.Client(base_url=running.base_url, timeout=20) as client:
        answer = client.post(
            running.auth_url,
            data={"scope": B2B},
            headers={"Authorization": f"Basic {running.key(B2B)}", "RqUID": str(uuid.uuid4())},
        )
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


@pytest.fixture
def post(client: httpx.Client) -> Post:
    """Sends a body and expects success."""

    def send(body: dict[str, Any]) -> httpx.Response:
        answer = client.post(
            "/chat/completions", content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        return answer

    return send


HISTORY = (
    Message("system", "One."),
    Message("user", "Weather?"),
    Message("assistant", "Let me see.", tool_calls=(ToolCall("a", "search/docs", '{"q": 1}'), ToolCall("b", "x", "["))),
    Message("tool", "two\nlines", tool_call_id="b"),
    Message("tool", "[1, 2]", tool_call_id="a"),
    Message("developer", "Two."),
    Message("user", "And then?"),
)  # fmt: skip
EXTRA = {"repetition_penalty": 1.1, "update_interval": 0, "flags": ["a"], "function_ranker": {"enabled": False}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0, "top_p": 0, "max_tokens": 100, "reasoning_effort": "xhigh", "seed": 1, "extra": EXTRA},
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "none"},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS[:1], "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": NamedTool("web_search")},
        {"tools": (Tool("text2image"), *TOOLS)},
        {"response_format": ResponseFormat("json_object")},
        {"response_format": ResponseFormat("json_schema", schema=SCHEMA, strict=True)},
        {"response_format": ResponseFormat("json_schema", schema=SCHEMA), "tools": TOOLS},
    ],
)
def test_translated_requests_are_accepted(post: Post, fields: dict[str, Any]) -> None:
    """Whatever a client combines, the service finds nothing to refuse, and its answer can be read."""
    translation = translate(ChatRequest("m", HISTORY, **fields), "GigaChat-2-Max", ConvertOptions(), {})
    reply = AnswerReader(translation).reply(post(translation.body).json())
    assert reply.choices[0].text or reply.choices[0].tool_calls


def test_a_call_in_a_stream_comes_back_under_the_clients_name(post: Post) -> None:
    """A tool with a name that the service does not take is called, streamed, under its own name."""
    request = ChatRequest("m", (Message("user", "x"),), tools=TOOLS, tool_choice=NamedTool("получить погоду"))
    translation = translate(request, "GigaChat-2-Max", ConvertOptions(), {})
    data = payloads(post({**translation.body, "stream": True}).content)
    assert data.pop() == DONE
    reader = AnswerReader(translation)
    events = [event for one in data for event in reader.read(msgspec.json.decode(one))] + reader.end()
    assert [event.name for event in events if isinstance(event, ToolCallDelta)] == ["получить погоду"]
    assert [event.reason for event in events if isinstance(event, Finished)] == ["tool_calls"]


def test_a_stop_sequence_ends_a_stream(post: Post) -> None:
    """A stop sequence cuts the stream of a service that knows none."""
    request = ChatRequest("m", (Message("user", "say 50 words"),), stop=("word12 ",))
    translation = translate(request, "GigaChat-2-Max", ConvertOptions(), {})
    reader = AnswerReader(translation)
    events = []
    for data in payloads(post({**translation.body, "stream": True}).content)[:-1]:
        events += reader.read(msgspec.json.decode(data))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text.startswith("word1 ")
    assert text.endswith("word11 ")
    (usage,) = reader.end()
    assert usage.total_tokens > 0  # type: ignore[attr-defined]


def test_a_schema_by_a_forced_function(post: Post) -> None:
    """A model without structured output gives JSON by way of a function."""
    request = ChatRequest("m", (Message("user", "x"),), response_format=ResponseFormat("json_schema", schema=SCHEMA))
    translation = translate(request, "GigaChat-2-Pro", ConvertOptions(json_schema="function"), {})
    (choice,) = AnswerReader(translation).reply(post(translation.body).json()).choices
    assert "city" in msgspec.json.decode(choice.text)
    assert (choice.tool_calls, choice.finish_reason) == ([], "stop")


def test_two_images_in_one_message(client: httpx.Client, post: Post) -> None:
    """Two images of one message are sent as the service wants them."""
    files = {}
    for part in (CAT, DOG):
        answer = client.post("/files", files={"file": ("a.png", PNG, "image/png")}, data={"purpose": "general"})
        files[part] = answer.json()["id"]
    request = ChatRequest("m", (Message("user", (TextPart("Compare"), CAT, DOG)),))
    translation = translate(request, "GigaChat-2-Max", ConvertOptions(), files)
    assert AnswerReader(translation).reply(post(translation.body).json()).choices[0].text


def test_a_state_goes_round(post: Post) -> None:
    """The service's state comes back to it inside the id of the call."""
    options = ConvertOptions(send_state_id=True)
    first = ChatRequest("m", (Message("user", "x"),), tools=TOOLS, tool_choice=NamedTool("web_search"))
    translation = translate(first, "GigaChat-2-Max", options, {})
    document = post(translation.body).json()
    (call,) = AnswerReader(translation).reply(document).choices[0].tool_calls
    history = (Message("assistant", tool_calls=(call,)), Message("tool", "found", tool_call_id=call.id))
    second = ChatRequest("m", (*first.messages, *history), tools=TOOLS)
    body = translate(second, "GigaChat-2-Max", options, {}).body
    assert body["messages"][1]["functions_state_id"] == document["choices"][0]["message"]["functions_state_id"]
    assert "found" in post(body).json()["choices"][0]["message"]["content"]
