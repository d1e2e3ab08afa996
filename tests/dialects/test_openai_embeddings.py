"""OpenAI's embeddings: what is read, what is refused, and what the official SDK reads again."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.dialects import OpenAIEmbeddings
from gatewaykit.errors import BadRequest
from gatewaykit.types import Call, EmbeddingList, EmbeddingsRequest, Incoming, Principal, Reply, Usage

Client = Callable[..., openai.OpenAI]
INCOMING = Incoming("POST", "/v1/embeddings", {}, None, "test")


def decode(**fields: Any) -> EmbeddingsRequest:
    return OpenAIEmbeddings().decode(INCOMING, json.dumps({"model": "m", "input": "a", **fields}).encode())


def encoded(encoding: Any, *vectors: list[float], usage: Usage | None = None) -> bytes:
    request = EmbeddingsRequest("m", ("a",) * len(vectors), encoding)
    call = Call(INCOMING, Principal("tester"), "openai_embeddings", request)
    return OpenAIEmbeddings().encode_reply(call, Reply(vectors=vectors, usage=usage))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (["a", [1]], ("a", (1,))),
    ],
)
def test_inputs(given: Any, read: Any) -> None:
    """Text, texts, tokens and lists of tokens are what OpenAI takes."""
    assert decode(input=given).input == read


def test_other_fields() -> None:
    """Known fields have their words, unknown ones are kept, and null is nothing."""
    request = decode(encoding_format="base64", dimensions=64, user="u", input_type="query", extra_null=None)
    assert (request.encoding, request.dimensions, request.user) == ("base64", 64, "u")
    assert request.extra == {"input_type": "query"}
    assert decode(encoding_format=None) == EmbeddingsRequest("m", ("a",))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [1, -1]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [[True]]}, "input[0][0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"user": 1}, "user"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    """What cannot be asked is a 400 that names the field."""
    with pytest.raises(BadRequest) as caught:
        decode(**fields)
    assert caught.value.param == param


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8).map(
        lambda value: json.dumps({"model": "m", "input": value}).encode()
    )
)
def test_nothing_breaks_the_reader(body: bytes) -> None:
    """Any bytes are a request or a 400."""
    try:
        request = OpenAIEmbeddings().decode(INCOMING, body)
    except BadRequest:
        return
    assert request.input


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_the_sdk_reads_both_encodings(encoding: str, sdk: Client) -> None:
    """The official client gets the same numbers whichever way they travel."""
    body = encoded(encoding, [0.5, -0.25], [1.0, 3.0], usage=Usage(7))
    with sdk(body) as client:
        answer = client.embeddings.create(model="m", input=["a", "b"])
    assert [entry.embedding for entry in answer.data] == [[0.5, -0.25], [1.0, 3.0]]
    assert [entry.index for entry in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("m", 7, 7)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_base64_is_32_bit_floats_little_endian(vector: list[float]) -> None:
    """What is written can be unpacked by the format's definition."""
    (entry,) = json.loads(encoded("base64", vector))["data"]
    assert list(struct.unpack(f"<{len(vector)}f", base64.b64decode(entry["embedding"]))) == vector


def test_events_and_raw() -> None:
    """A list that comes as an event is written alike, and what the provider wrote itself passes as it is."""
    dialect = OpenAIEmbeddings()
    call = Call(INCOMING, Principal("t"), "openai_embeddings", decode())
    assert json.loads(dialect.encoder(call).encode(EmbeddingList(([1.0],))))["data"][0]["embedding"] == [1.0]
    assert dialect.encode_reply(call, Reply(raw=b"{}")) == b"{}"
