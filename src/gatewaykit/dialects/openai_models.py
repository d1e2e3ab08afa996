"""OpenAI's list of models: ``GET /v1/models`` and ``GET /v1/models/{id}``.

Source: OpenAI API reference, "Models". An id may contain slashes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gatewaykit.dialects.openai_errors import encode_error
from gatewaykit.errors import GatewayError, ModelNotFound
from gatewaykit.protocols import Dialect, Encoder
from gatewaykit.types import Call, Event, Incoming, Model, ModelList, ModelsRequest, Reply

_PATH = "/v1/models"

_json = msgspec.json.Encoder()


class OpenAIModels(Dialect):
    """The models that a client may ask for."""

    name = "openai_models"
    operation = ""
    routes = (("GET", _PATH), ("GET", f"{_PATH}/*"))

    def decode(self, incoming: Incoming, body: bytes) -> ModelsRequest:
        """All models, or the one that the path names."""
        return ModelsRequest(model=incoming.path.removeprefix(_PATH).removeprefix("/"))

    def encoder(self, call: Call) -> Encoder:
        """The list in one piece, for this dialect has no streams."""
        return _Whole(call)

    def encode_reply(self, call: Call, reply: Reply) -> bytes:
        """The list, or the one model.

        Raises :class:`~gatewaykit.errors.ModelNotFound` when the model that was asked for is not in the reply.
        """
        return reply.raw if reply.raw is not None else _encode_models(call, reply.models or ())

    def encode_error(self, error: GatewayError, request_id: str) -> bytes:
        """OpenAI's error body; the request's id stands in the header ``x-request-id``."""
        return encode_error(error)


class _Whole(Encoder):
    def __init__(self, call: Call) -> None:
        self._call = call

    def encode(self, event: Event) -> bytes:
        return _encode_models(self._call, event.models) if isinstance(event, ModelList) else b""

    def finish(self) -> bytes:
        return b""

    def fail(self, error: GatewayError) -> bytes:
        return encode_error(error)


def _encode_models(call: Call, models: Iterable[Model]) -> bytes:
    wanted = call.request.model
    if not wanted:
        return _json.encode({"object": "list", "data": [_document(model) for model in models]})
    for model in models:
        if model.id == wanted:
            return _json.encode(_document(model))
    raise ModelNotFound(param="model")


def _document(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
