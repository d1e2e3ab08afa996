"""The models: finding one by the names that requests use, and the ``/models`` endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from starlette.types import ASGIApp

from .call import Call
from .refusals import api_refusal
from .replies import JsonReply
from .settings import ModelCard

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]*")


class Catalogue:
    """Models by id, ``id:latest``, ``id:build`` and, for chat models, ``id-preview``."""

    def __init__(self, cards: Iterable[ModelCard]) -> None:
        self.cards = {card.id: card for card in cards}

    def find(self, name: str) -> ModelCard:
        """The model called ``name``; 404 when there is none."""
        base, _, version = name.partition(":")
        card = self.cards.get(base) or self._preview(base)
        if card is None or version not in ("", "latest", card.build):
            raise api_refusal(404)
        return card

    def find_type(self, name: str, kind: Literal["chat", "embedder"]) -> ModelCard:
        """As :meth:`find`, for a model that can do what is asked."""
        card = self.find(name)
        if card.type != kind:
            raise api_refusal(404)
        return card

    def _preview(self, name: str) -> ModelCard | None:
        card = self.cards.get(name.removesuffix("-preview"))
        return card if card is not None and card.type == "chat" else None


def _public(card: ModelCard) -> dict[str, Any]:
    return {"id": card.id, "object": "model", "owned_by": "salutedevices", "type": card.type}


async def list_models(call: Call) -> ASGIApp:
    """``GET /models``."""
    cards = call.sandbox.catalogue.cards.values()
    return JsonReply(call, {"data": [_public(card) for card in cards], "object": "list"})


async def get_model(call: Call) -> ASGIApp:
    """``GET /models/{id}``; 400 for a malformed version after the colon."""
    name = call.param("id")
    _, colon, version = name.partition(":")
    if colon and not _VERSION.fullmatch(version):
        raise api_refusal(400, "Invalid model version")
    return JsonReply(call, _public(call.sandbox.catalogue.find(name)))
