"""The ``/models`` endpoints."""

from __future__ import annotations

import re
from typing import Any

from starlette.types import ASGIApp

from .call import Call
from .refusals import api_refusal
from .replies import JsonReply
from .settings import ModelCard

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]*")


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
