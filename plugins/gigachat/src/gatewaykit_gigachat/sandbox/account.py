"""``/tokens/count`` and ``/balance``."""

from __future__ import annotations

from msgspec import Struct
from starlette.types import ASGIApp

from .body import shaped
from .call import Call
from .refusals import api_refusal
from .replies import JsonReply
from .settings import CORP
from .text import count_tokens


class CountRequest(Struct):
    """Texts to be counted for ``model``."""

    model: str
    input: list[str]


async def count(call: Call) -> ASGIApp:
    """``POST /tokens/count``: plain text only, one item per text in the order of the request."""
    request = shaped(call.json(), CountRequest)
    call.sandbox.catalogue.find(request.model)
    counted = [{"object": "tokens", "tokens": count_tokens(text), "characters": len(text)} for text in request.input]
    return JsonReply(call, counted)


async def balance(call: Call) -> ASGIApp:
    """``GET /balance``: prepaid tokens by model; 403 for pay-as-you-go clients."""
    if call.grant.scope == CORP:
        raise api_refusal(403)
    models = [card.id for card in call.sandbox.catalogue.cards.values() if card.type in ("chat", "embedder")]
    entries = [{"usage": model, "value": call.sandbox.balance(call.grant, model)} for model in models]
    return JsonReply(call, {"balance": entries})
