"""OpenAI's embeddings: ``POST /v1/embeddings``, with numbers as JSON or as base64.

Source: OpenAI API reference, "Create embeddings". Null means "not given".
"""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from gatewaykit.dialects.openai_chat_decode import read_document
from gatewaykit.dialects.openai_errors import encode_error
from gatewaykit.dialects.openai_fields import (
    INT64,
    Reader,
    filled_array,
    integer,
    invalid,
    missing,
    one_of,
    shallow,
    text_of,
    wrong_type,
)
from gatewaykit.dialects.openai_fields import text as any_text
from gatewaykit.errors import GatewayError
from gatewaykit.protocols import Dialect, Encoder
from gatewaykit.types import Call, EmbeddingList, EmbeddingsRequest, Event, Incoming, Reply, Usage, Vector

MOST_INPUTS = 2048
"""Texts in one request, as the API has it."""

_json = msgspec.json.Encoder()
_some_text = text_of(1, INT64)


class OpenAIEmbeddings(Dialect):
    """The wire format of the official OpenAI SDKs' ``embeddings``."""

    name = "openai_embeddings"
    operation = "embeddings"
    routes = (("POST", "/v1/embeddings"),)

    def decode(self, incoming: Incoming, body: bytes) -> EmbeddingsRequest:
        """The request of ``body``. Raises :class:`~gatewaykit.errors.BadRequest` naming the field."""
        given: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in read_document(body).items():
            if value is not None:
                read = _READERS.get(name)
                if read is None:
                    shallow(value, name[:64])
                    extra[name] = value
                else:
                    given[_FIELDS.get(name, name)] = read(value, name)
        for name in ("model", "input"):
            if name not in given:
                raise missing(name)
        if extra:
            given["extra"] = extra
        return EmbeddingsRequest(**given)

    def encoder(self, call: Call) -> Encoder:
        """The list in one piece, for this dialect has no streams."""
        return _Whole(call)

    def encode_reply(self, call: Call, reply: Reply) -> bytes:
        """The list of vectors; what the provider wrote in this format itself is passed on as it is."""
        if reply.raw is not None:
            return reply.raw
        usage = reply.usage or Usage()
        return _encode(call, reply.model, reply.vectors or (), usage)

    def encode_error(self, error: GatewayError, request_id: str) -> bytes:
        """OpenAI's error body; the request's id stands in the header ``x-request-id``."""
        return encode_error(error)


class _Whole(Encoder):
    def __init__(self, call: Call) -> None:
        self._call = call

    def encode(self, event: Event) -> bytes:
        return _encode(self._call, "", event.vectors, Usage()) if isinstance(event, EmbeddingList) else b""

    def finish(self) -> bytes:
        return b""

    def fail(self, error: GatewayError) -> bytes:
        return encode_error(error)


def _encode(call: Call, model: str, vectors: tuple[Vector, ...], usage: Usage) -> bytes:
    written = _base64 if call.embeddings.encoding == "base64" else list
    data = [
        {"object": "embedding", "index": index, "embedding": written(vector)} for index, vector in enumerate(vectors)
    ]
    counted = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens}
    return _json.encode({"object": "list", "data": data, "model": model or call.request.model, "usage": counted})


def _base64(vector: Vector) -> str:
    """32-bit floats, little-endian."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers).decode()


def _read_input(value: Any, name: str) -> tuple[str | tuple[int, ...], ...]:
    if type(value) is str:
        return (_some_text(value, name),)
    items = filled_array(value, name)
    if type(items[0]) is int:
        return (_tokens(items, name),)
    if len(items) > MOST_INPUTS:
        raise invalid(name, f"array too long. Expected an array with maximum length {MOST_INPUTS}")
    return tuple(
        _tokens(item, f"{name}[{index}]") if type(item) is list else _text(item, f"{name}[{index}]")
        for index, item in enumerate(items)
    )


def _text(item: Any, name: str) -> str:
    if type(item) is not str:
        raise wrong_type(name, "a string or an array of tokens", item)
    return str(_some_text(item, name))


def _tokens(items: list[Any], name: str) -> tuple[int, ...]:
    for index, item in enumerate(filled_array(items, name)):
        if type(item) is not int or not 0 <= item < INT64:
            raise wrong_type(f"{name}[{index}]", "a token", item)
    return tuple(items)


_FIELDS: Mapping[str, str] = {"encoding_format": "encoding"}
_READERS: Mapping[str, Reader] = {
    "model": text_of(1, 256),
    "input": _read_input,
    "encoding_format": one_of("float", "base64"),
    "dimensions": integer(1, 1_000_000),
    "user": any_text,
}
