"""What operators ask of the router: where a request would go, or a past one went, for whom, and whether it would be let
in; nobody is called and nothing is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from gatewaykit.admission import require, require_model, require_network
from gatewaykit.builtin.router.explaining import Document, explain, happened, key_told, limits_told, refusal_told
from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.errors import AuthFailed, BadRequest, GatewayError, ModelNotFound, NotFound, PermissionDenied
from gatewaykit.limits import Forecast
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Known
from gatewaykit.types import INFERENCE, Call, ChatRequest, ImagePart, Incoming, Message, Principal, TextPart, Tool

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHARACTERS_PER_TOKEN = 4
_MOST_TOKENS = 2_000_000
_NOBODY = "explain"
_TOLD = (
    "request_id",
    "path",
    "client",
    "model",
    "principal",
    "tenant",
    "stream",
    "outcome",
    "error",
    "status",
    "attempts",
)
"""What of a past call is told."""

_SHARED = frozenset({"all", "model"})
"""Whose limits a call is under, whoever makes it."""


class Question(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked: a request in outline, or the id of a past one.

    ``key`` is the id of the key that asks, or its beginning. ``path`` is the one that the request is sent to, and
    ``client`` the address that it comes from; without one it is not asked whether the key may be used there.
    """

    model: str = ""
    request_id: str = ""
    key: str = ""
    tenant: str = ""
    path: str = ""
    client: str = ""
    prompt: str = ""
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    session: str = ""
    stream: bool = False
    tools: bool = False
    images: bool = False
    headers: dict[str, str] = {}


class Explainer:
    """Answers for one gateway's router."""

    def __init__(self, router: ModelRouter, gateway: GatewayContext) -> None:
        self._router = router
        self._gateway = gateway
        self._book = PriceBook.of(gateway)

    async def explained(self, question: Question) -> Document:
        """The explanation. Raises :class:`~gatewaykit.errors.BadRequest` without a model, and
        :class:`~gatewaykit.errors.NotFound` for a request of which nothing is known.
        """
        past = await self._past(question.request_id) if question.request_id else {}
        question = _completed(question, past)
        if not question.model:
            raise BadRequest("Name a model, or the id of a past request.", param="model")
        known = await self._gateway.look_up(question.key) if question.key else None
        who = _asking(question, known)
        call = _outlined(question, who)
        call.targets = tuple(self._router.route(call))
        document = explain(self._router, self._gateway.targets, self._book, call)
        document["key"] = key_told(question.key, known)
        forecasts, refusal = await self._foretold(call, known, question)
        document["limits"] = limits_told(forecasts)
        document["refused"] = refusal_told(refusal, forecasts, document["order"])
        if past:
            document["past"] = {**past, "attempts": happened(past["attempts"])}
        return document

    async def _foretold(
        self, call: Call, known: Known | None, question: Question
    ) -> tuple[Sequence[Forecast], GatewayError | None]:
        """What every limit would say, and what refuses the call before any of them is asked."""
        refusal = _refusal(call, known, question)
        try:
            forecasts = await self._gateway.foretell(call)
        except PermissionDenied as error:  # of a price that nobody knows
            return (), refusal or error
        if not question.key:
            forecasts = [forecast for forecast in forecasts if forecast.standing.limit.whose in _SHARED]
        return forecasts, refusal

    async def _past(self, request_id: str) -> dict[str, Any]:
        storage = self._gateway.storage
        found = None if storage is None else await storage.read(lambda session: _record(session, request_id))
        if found is None:
            raise NotFound("The ledger has no request of this id.")
        return found


def _record(session: Session, request_id: str) -> dict[str, Any] | None:
    """One call, as the ledger has it."""
    from sqlalchemy import select

    from gatewaykit.storage.tables import metadata

    table = metadata.tables["call_records"]
    query = select(*(table.c[name] for name in _TOLD)).where(table.c.request_id == request_id).limit(1)
    row = session.execute(query).mappings().first()
    return None if row is None else dict(row)


def _completed(question: Question, past: Mapping[str, Any]) -> Question:
    """``question`` with what the past request was like, where it says nothing of its own."""
    return msgspec.structs.replace(
        question,
        model=question.model or past.get("model") or "",
        key=question.key or past.get("principal") or "",
        tenant=question.tenant or past.get("tenant") or "",
        path=question.path or past.get("path") or "/v1/chat/completions",
        client=question.client or past.get("client") or "",
        stream=question.stream or bool(past.get("stream")),
    )


def _asking(question: Question, known: Known | None) -> Principal:
    who = known.principal if known is not None else Principal(question.key or _NOBODY)
    return replace(who, tenant=question.tenant) if question.tenant else who


def _refusal(call: Call, known: Known | None, question: Question) -> GatewayError | None:
    """Why the call would not get as far as the limits, in the order in which the gateway asks."""
    try:
        if known is not None:
            if known.bars:
                raise AuthFailed(f"This key lets nobody in: {known.bars}.")
            if known.networks and question.client:
                require_network(known.networks, question.client)
            require(known.principal, INFERENCE, question.path)
            require_model(known.principal, call.request.model)
        if not call.targets:
            raise ModelNotFound(f"The model {call.request.model!r} does not exist.", param="model")
    except GatewayError as error:
        return error
    return None


def _outlined(question: Question, who: Principal) -> Call:
    """A call that looks like the one that is asked about."""
    text = question.prompt
    if question.prompt_tokens is not None:
        text = text.ljust(min(question.prompt_tokens, _MOST_TOKENS) * _CHARACTERS_PER_TOKEN)
    content = (TextPart(text), ImagePart("data:,")) if question.images else text
    tools = (Tool("any"),) if question.tools else ()
    request = ChatRequest(
        question.model,
        (Message("user", content),),
        stream=question.stream,
        tools=tools,
        max_tokens=question.max_tokens,
        session=question.session or None,
    )
    headers = {name.lower(): value for name, value in question.headers.items()}
    incoming = Incoming("POST", question.path, headers, question.client or None, _NOBODY)
    return Call(incoming, who, _NOBODY, request)


__all__ = ["Explainer", "Question"]
