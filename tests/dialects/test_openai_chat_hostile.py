"""Whatever comes in, an OpenAI chat request is understood or refused, and nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from gatewaykit.dialects import OpenAIChat
from gatewaykit.errors import BadRequest
from gatewaykit.types import ChatRequest, Incoming

INCOMING = Incoming("POST", "/v1/chat/completions", {"x-session-id": "s"}, None, "id")

WHOLE: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s", "name": "n"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "u"},
                {"type": "image_url", "image_url": {"url": "https://example.com/", "detail": "auto"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
                {"type": "file", "file": {"file_id": "f", "file_data": "AA==", "filename": "n"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "3"},
        {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "3"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "r"}]},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}, "strict": True}}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "parallel_tool_calls": True,
    "response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": {}, "strict": True}},
    "temperature": 1,
    "top_p": 0.5,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "stop": ["a"],
    "n": 1,
    "seed": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": True,
    "top_logprobs": 1,
    "reasoning_effort": "low",
    "user": "u",
    "functions": None,
    "function_call": None,
    "metadata": {"a": "b"},
}


def paths(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all values inside ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, child in items for path in [(*here, key), *paths(child, (*here, key))]]


PATHS = paths(WHOLE)

words = st.sampled_from(["user", "tool", "function", "text", "image_url", "auto", "required", "json_schema", "f", "g"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "name", "function", "role"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


def decode(body: bytes) -> ChatRequest | BadRequest:
    """What became of ``body``; any exception but a refusal goes through."""
    try:
        return OpenAIChat().decode(INCOMING, body)
    except BadRequest as error:
        return error


def replaced(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    """Put ``value`` at ``path``, if the path is still there."""
    inner: Any = document
    try:
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    except (TypeError, KeyError, IndexError):
        return


def test_the_whole_request_is_valid() -> None:
    """The request that the properties below damage is accepted as it is."""
    assert isinstance(decode(msgspec.json.encode(WHOLE)), ChatRequest)


@given(st.lists(st.tuples(st.sampled_from(PATHS), values), min_size=1, max_size=3))
def test_any_value_at_any_place_is_read_or_refused(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Arbitrary values at arbitrary places of a request lead to a request or to a refusal that names a field."""
    document = copy.deepcopy(WHOLE)
    for path, value in changes:
        replaced(document, path, value)
    body = json.dumps(document).encode()
    outcome = decode(body)
    if isinstance(outcome, BadRequest):
        assert outcome.message
        readable = not any(word in body for word in (b"NaN", b"Infinity"))
        assert outcome.param or not readable
        assert "error" in json.loads(OpenAIChat().encode_error(outcome, "id"))


@given(st.sampled_from(PATHS))
def test_any_missing_field_is_read_or_refused(path: tuple[str | int, ...]) -> None:
    """A request without one of its fields is accepted, or refused naming a field."""
    document = copy.deepcopy(WHOLE)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    outcome = decode(json.dumps(document).encode())
    assert isinstance(outcome, ChatRequest) or outcome.param


@given(values)
def test_any_document_is_read_or_refused(document: Any) -> None:
    """Arbitrary JSON is refused."""
    assert isinstance(decode(json.dumps(document).encode()), BadRequest)


@given(st.binary(max_size=200))
@example(b'{"model":"\\ud83d"')
def test_any_bytes_are_refused(body: bytes) -> None:
    """Arbitrary bytes are refused."""
    assert isinstance(decode(body), BadRequest)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_any_damage_is_read_or_refused(place: int, bytes_: bytes) -> None:
    """A valid body with arbitrary bytes written over a part of it is read or refused."""
    body = msgspec.json.encode(WHOLE)
    place %= len(body)
    decode(body[:place] + bytes_ + body[place + len(bytes_) :])
