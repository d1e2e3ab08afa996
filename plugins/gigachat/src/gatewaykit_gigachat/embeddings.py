"""Requests for vectors: what the service is asked, and what it answers (GigaChat REST API, "Embeddings").

It takes texts only, has no choice of dimensions, and counts tokens for each text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gatewaykit.errors import BadRequest, ProviderBadAnswer
from gatewaykit.types import EmbeddingsRequest, Usage, Vector

from .errors import UNREADABLE

MOST_TEXTS = 100
"""Texts in one request to the service: no limit is documented, and a request must end in time."""

_UNSUPPORTED = ("dimensions", "user")


class _Item(msgspec.Struct, gc=False):
    embedding: list[float]
    index: int
    usage: dict[str, int] | None = None


class _Answer(msgspec.Struct, gc=False):
    data: list[_Item]
    model: str = ""


_read = msgspec.json.Decoder(_Answer).decode


def texts_of(request: EmbeddingsRequest, unsupported: Literal["report", "refuse"]) -> tuple[str, ...]:
    """The texts. Raises :class:`~gatewaykit.errors.BadRequest` for tokens, and for what must be refused."""
    for index, item in enumerate(request.input):
        if not isinstance(item, str):
            raise BadRequest("GigaChat makes vectors of texts, not of tokens.", param=f"input[{index}]")
    if unsupported == "refuse" and request.dimensions is not None:
        raise BadRequest("GigaChat's models have fixed dimensions.", param="dimensions")
    return tuple(text for text in request.input if isinstance(text, str))


def ignored(request: EmbeddingsRequest) -> tuple[str, ...]:
    """What the client asked for and the service has no word for."""
    own = [name for name in _UNSUPPORTED if getattr(request, name) is not None]
    return (*own, *request.extra)


def bodies(texts: Sequence[str], model: str) -> list[bytes]:
    """The request bodies that together ask for all texts."""
    return [
        msgspec.json.encode({"model": model, "input": texts[start : start + MOST_TEXTS]})
        for start in range(0, len(texts), MOST_TEXTS)
    ]


def read_vectors(body: bytes, wanted: int) -> tuple[str, list[Vector], int]:
    """The model, ``wanted`` vectors in the order of their texts, and how many tokens these had.

    Raises :class:`~gatewaykit.errors.ProviderBadAnswer`.
    """
    try:
        answer = _read(body)
    except UNREADABLE:
        raise ProviderBadAnswer(detail="not the vectors that were asked for") from None
    found: Mapping[int, _Item] = {item.index: item for item in answer.data}
    if len(answer.data) != wanted or sorted(found) != list(range(wanted)):
        raise ProviderBadAnswer(detail=f"{len(answer.data)} vectors for {wanted} texts")
    tokens = sum((item.usage or {}).get("prompt_tokens", 0) for item in answer.data)
    return answer.model, [found[index].embedding for index in range(wanted)], tokens


def usage_of(tokens: int) -> Usage | None:
    """What was used, if the service counted."""
    return Usage(input_tokens=tokens) if tokens > 0 else None
