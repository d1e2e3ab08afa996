"""Whatever the body is, the answer is a clear error in OpenAI's shape: never a 500, never a word of the inside."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .raw import CHAT, Answer, answered, chat, connected, request
from .world import GIGACHAT, GPT, KEY, PROMPT, World, unharmed

MEGABYTE = 1024 * 1024


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    """No test leaves a task or a call behind."""
    with unharmed(world):
        yield


NOT_JSON = {
    "nothing": b"",
    "space": b" \n ",
    "half an object": chat(PROMPT)[:-1],
    "two objects": chat(PROMPT) * 2,
    "comment": b"/* */" + chat(PROMPT),
    "trailing comma": chat(PROMPT)[:-1] + b",}",
    "single quotes": chat(PROMPT).replace(b'"', b"'"),
    "not a number": chat(PROMPT)[:-1] + b',"temperature":NaN}',
    "infinity": chat(PROMPT)[:-1] + b',"temperature":-Infinity}',
    "byte order mark": b"\xef\xbb\xbf" + chat(PROMPT),
    "UTF-16": chat(PROMPT).decode().encode("utf-16"),
    "invalid UTF-8": chat("caf\u00e9").decode().encode("latin-1"),
    "surrogate in UTF-8": chat(PROMPT)[:-1] + b',"user":"\xed\xa0\x80"}',
    "zero bytes": b"\0" * 100,
    "a form": b"model=gpt&messages=hello",
    "control character in a string": chat(PROMPT)[:-1] + b',"user":"a\nb"}',
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "balanced brackets": b'{"model":"gpt-sandbox","messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "deep unknown field": chat(PROMPT)[:-1] + b',"x":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
    "deep schema": chat(PROMPT)[:-1]
    + b',"tools":[{"type":"function","function":{"name":"f","parameters":'
    + b'{"properties":' * 900
    + b"1"
    + b"}" * 900
    + b"}}]}",
    "a list": b"[]",
    "a string": b'"hello"',
    "a number": b"1e400",
    "null": b"null",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_request(world: World, name: str) -> None:
    """A body that is no JSON object, or one nested beyond reason, is a 400 that says so."""
    answer = answered(world, request(body=NOT_JSON[name]))
    assert answer.status == 400
    assert answer.error["code"] == "invalid_request"
    assert answer.error["type"] == "invalid_request_error"


def test_a_compressed_body_is_named_as_one(world: World) -> None:
    """It is not called bad JSON: the client is told what to leave out."""
    answer = answered(world, request("POST", CHAT, gzip.compress(chat(PROMPT)), "Content-Encoding: gzip"))
    assert answer.status == 400
    assert answer.error["message"] == "The body has the encoding 'gzip'. Send it without any."


KNOWN_FIELDS = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "response_format",
    "temperature",
    "stop",
    "n",
    "max_tokens",
    "logprobs",
    "functions",
    "function_call",
    "user",
    "seed",
    "reasoning_effort",
]
FURTHER_FIELDS = [
    "parallel_tool_calls",
    "top_p",
    "max_completion_tokens",
    "frequency_penalty",
    "top_logprobs",
    "logit_bias",
    "x-anything",
]
VALUES: list[Any] = [None, 1, "x", True, {}, [], [[]], [None], [1], {"a": 1}, "\ud800", 2**70, -1.5, "x" * 100_000]


@pytest.mark.parametrize("field", KNOWN_FIELDS)
@pytest.mark.parametrize("model", [GIGACHAT, GPT])
def test_wrong_types(world: World, model: str, field: str) -> None:
    """A field of another type is answered, or refused by its name; nothing breaks."""
    for value in VALUES:
        document = {"model": model, "messages": [{"role": "user", "content": "say 2 words"}], field: value}
        answer = answered(world, request(body=_json(document)))
        assert answer.status in {200, 400, 403, 404}
        if answer.status == 400:
            assert (answer.error["param"] or "").startswith(field) or value == "\ud800"


def _json(document: Any) -> bytes:
    """JSON in which text may hold half a character."""
    return json.dumps(document).encode()


# size


def _chunked(size: int, piece: int = MEGABYTE) -> Iterator[bytes]:
    for _ in range(size // piece):
        yield b"%x\r\n" % piece + b" " * piece + b"\r\n"
    yield b"0\r\n\r\n"


def test_20_megabytes(world: World) -> None:
    """20 MB of announced length are a 413 that the client hears although it is still sending."""
    answer = answered(world, request(body=b" " * (20 * MEGABYTE)))
    assert answer.status == 413
    assert answer.error["code"] == "body_too_large"


def test_20_megabytes_in_chunks(world: World) -> None:
    """20 MB of unknown length are a 413 too."""
    with connected(world) as connection:
        connection.send(_chunked_head())
        for chunk in _chunked(20 * MEGABYTE):
            connection.send(chunk)
        answer = connection.answer()
    assert answer.status == 413
    assert answer.error["code"] == "body_too_large"


def test_a_body_without_end(world: World) -> None:
    """A body that does not end is cut off: the sender gets a 413, or finds its connection closed."""
    with connected(world) as connection:
        connection.send(_chunked_head())
        sent = 0
        answer: Answer | None = None
        with contextlib.suppress(ConnectionError):
            for chunk in _chunked(400 * MEGABYTE):
                connection.send(chunk)
                sent += len(chunk)
        with contextlib.suppress(ConnectionError):
            answer = connection.answer()
    assert sent < 200 * MEGABYTE
    assert answer is None or answer.status == 413


def _chunked_head() -> bytes:
    return request(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


# anything


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from([*KNOWN_FIELDS, *FURTHER_FIELDS])
part = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal", "x"])},
    optional={
        "text": json_values,
        "image_url": st.fixed_dictionaries({"url": st.sampled_from(["data:image/png;base64,AAAA", "data:,", "x"])}),
        "file": json_values,
        "input_audio": json_values,
    },
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "function", "developer", "x"])},
    optional={
        "content": json_values | st.text() | st.lists(part, max_size=3),
        "tool_calls": json_values
        | st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.sampled_from(["a", "b", ""]),
                    "type": st.just("function"),
                    "function": st.fixed_dictionaries({"name": st.text(max_size=9), "arguments": st.text(max_size=9)}),
                }
            ),
            max_size=3,
        ),
        "tool_call_id": st.sampled_from(["a", "b", "c"]),
        "name": st.text(max_size=9),
        "function_call": json_values,
    },
)
tool = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.text(max_size=9)}, optional={"parameters": json_values}),
    }
)
near_requests = st.fixed_dictionaries(
    {"model": st.sampled_from([GIGACHAT, GPT]), "messages": st.lists(message, max_size=4)},
    optional={"tools": st.lists(tool, max_size=3), "stream": st.booleans()},
).flatmap(lambda known: st.dictionaries(fields, json_values, max_size=2).map(lambda further: {**known, **further}))
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(_json),
    near_requests.map(_json),
    near_requests.map(_json).flatmap(lambda body: st.integers(0, len(body)).map(lambda end: body[:end])),
)


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    """A connection for many requests."""
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with httpx.Client(base_url=world.url, headers=headers, timeout=30, trust_env=False) as made:
        yield made


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
@example(body=b"")
def test_no_body_is_a_500(client: httpx.Client, body: bytes) -> None:
    """Any bytes, any JSON, and anything near a request is answered, or refused with 4xx in OpenAI's shape."""
    response = client.post("/v1/chat/completions", content=body)
    assert response.status_code < 500, (response.text, body)
    if response.status_code == 200:
        return
    error = msgspec.json.decode(response.content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.status_code in {400, 404, 413}, response.text
