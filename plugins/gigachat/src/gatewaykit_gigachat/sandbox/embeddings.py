"""``POST /embeddings``: unit vectors made from a hash of the text."""

from __future__ import annotations

import hashlib
import math
import struct

from msgspec import Struct
from starlette.types import ASGIApp

from .body import shaped
from .call import Call
from .refusals import api_refusal, invalid
from .replies import JsonReply
from .text import count_tokens


class EmbeddingsRequest(Struct):
    """``input`` is one text or several."""

    model: str
    input: str | list[str]


def vector(model: str, text: str, dimensions: int) -> list[float]:
    """A vector of length 1, the same for the same model and text."""
    digest = hashlib.shake_256(f"{model}\0{text}".encode()).digest(2 * dimensions)
    numbers = [value + 0.5 for value in struct.unpack(f">{dimensions}h", digest)]
    length = math.sqrt(math.fsum(value * value for value in numbers))
    return [value / length for value in numbers]


async def embeddings(call: Call) -> ASGIApp:
    """Usage is counted per item; a text over the model's limit gets 413."""
    request = shaped(call.json(), EmbeddingsRequest)
    card = call.sandbox.catalogue.find_type(request.model, "embedder")
    texts = [request.input] if isinstance(request.input, str) else request.input
    if not texts:
        raise invalid("input must not be empty")
    tokens = [count_tokens(text) for text in texts]
    if max(tokens) > card.context:
        raise api_refusal(413)
    call.sandbox.require_balance(call.grant, card.id)
    call.sandbox.spend(call.grant, card.id, sum(tokens))
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": vector(card.id, text, card.dimensions),
            "usage": {"prompt_tokens": count},
        }
        for index, (text, count) in enumerate(zip(texts, tokens, strict=True))
    ]
    return JsonReply(call, {"object": "list", "model": request.model, "data": data})
