"""Requests for vectors, and the numbers in their answers. Source: OpenAI API reference, "Create embeddings"."""

from __future__ import annotations

import binascii
import sys
from array import array
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import msgspec

from gatewaykit.types import EmbeddingsRequest

from .body import merged

_FLOAT_BYTES = 4


def encode_embeddings(request: EmbeddingsRequest, model: str) -> bytes:
    """The request body; numbers are asked for as numbers, which every server can write."""
    document: dict[str, Any] = {"model": model, "input": list(request.input), "encoding_format": "float"}
    if request.dimensions is not None:
        document["dimensions"] = request.dimensions
    if request.user is not None:
        document["user"] = request.user
    return msgspec.json.encode(merged(document, request.extra))


def numbers_of(embedding: list[float] | str) -> Sequence[float]:
    """The vector; a server may write base64 although numbers were asked for. Raises :class:`msgspec.DecodeError`."""
    if not isinstance(embedding, str):
        return embedding
    try:
        data = b64decode(embedding, validate=True)
    except binascii.Error as error:
        raise msgspec.DecodeError("not base64") from error
    if len(data) % _FLOAT_BYTES:
        raise msgspec.DecodeError("not a list of 32-bit floats")
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
