"""The models, by the names that requests use for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .refusals import api_refusal
from .settings import ModelCard


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
