"""``/api/admin/routes`` and ``/api/admin/providers``: the table, its reload, explanations, and how targets are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.builtin.router.explaining import explain, happened, limits_told, told
from gatewaykit.builtin.router.managed import joined, locked, model_of, write
from gatewaykit.builtin.router.managed import read as managed_models
from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.builtin.router.settings import RouterSettings
from gatewaykit.errors import BadRequest, ConfigError, NotFound, Unavailable
from gatewaykit.guarding import answer, read_body
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Reloaded
from gatewaykit.types import (
    Call,
    ChatRequest,
    ImagePart,
    Incoming,
    Message,
    Principal,
    TextPart,
    Tool,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHARACTERS_PER_TOKEN = 4


class Question(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked of ``explain``: a request in outline, or the id of a past one."""

    model: str = ""
    request_id: str = ""
    key: str = ""
    tenant: str = ""
    prompt: str = ""
    prompt_tokens: int | None = None
    session: str = ""
    stream: bool = False
    tools: bool = False
    images: bool = False
    headers: dict[str, str] = {}


class Admin:
    """Answers of one gateway's router."""

    def __init__(self, router: ModelRouter, gateway: GatewayContext) -> None:
        self._router = router
        self._gateway = gateway
        self._book = PriceBook.of(gateway)

    async def routes(self, request: Request, principal: Principal) -> Response:
        """``GET /api/admin/routes``: the table in force."""
        settings = self._router.settings
        managed = sorted(managed_models(settings.file)) if settings.file else []
        return answer({"object": "routes", **settings.model_dump(mode="json"), "managed": managed})

    async def put(self, request: Request, principal: Principal) -> Response:
        """``PUT /api/admin/routes/models/NAME``: make or change a model; with faults nothing changes."""
        name, model = request.path_params["name"], await read_body(request, dict[str, Any])
        await asyncio.to_thread(self._change, name, model)
        self._reload("The file is written, and not in force")
        return answer({"object": "model", "name": name, **self._router.settings.models[name].model_dump(mode="json")})

    async def delete(self, request: Request, principal: Principal) -> Response:
        """``DELETE /api/admin/routes/models/NAME``: what the configuration says of it is in force again."""
        name = request.path_params["name"]
        await asyncio.to_thread(self._change, name, None)
        self._reload("The file is written, and not in force")
        return answer({"object": "model", "name": name, "deleted": True})

    def _reload(self, otherwise: str) -> Reloaded:
        try:
            return self._gateway.reload(everywhere=True)
        except ConfigError as error:
            raise BadRequest(f"{otherwise}: {error}") from error

    def _change(self, name: str, document: Any) -> None:
        """Write the file anew with this model, or without it, if the whole table is right then."""
        path = self._router.settings.file
        if path is None:
            raise BadRequest("This table is in the configuration alone: set router.file.")
        try:
            with locked(path):
                models = managed_models(path)
                if document is not None:
                    models[name] = model_of(name, document, "body")
                elif models.pop(name, None) is None:
                    raise NotFound(f"The file has no model {name[:100]!r}.")
                self._router.made(joined(self._gateway.settings.get(RouterSettings), models))
                write(path, models)
        except ConfigError as error:
            raise BadRequest(f"The table stays as it was: {error}") from error
        except OSError as error:
            raise Unavailable(detail=f"router.file: {error.strerror}") from error

    async def reload(self, request: Request, principal: Principal) -> Response:
        """``POST /api/admin/routes/reload``: read the configuration again; with faults nothing changes."""
        reloaded = self._reload("The configuration stays as it was")
        return answer({"object": "reload", "in_force": reloaded.in_force, "wait_for_restart": reloaded.wait})

    async def providers(self, request: Request, principal: Principal) -> Response:
        """``GET /api/admin/providers``: every target that was asked or is configured, as this process knows it."""
        targets, now = self._gateway.targets, time.monotonic()
        known: dict[str, list[dict[str, Any]]] = {name: [] for name in self._gateway.providers}
        for state in targets.all():
            line = {**told(state, now), "calls": state.calls, "failures": state.failures}
            line["opened"] = 0 if state.breaker is None else state.breaker.opened
            known.setdefault(state.target.provider, []).append(line)
        attempts = {name: getattr(targets, name) for name in ("fallbacks", "retries", "hedges", "overtaken")}
        budgets = {
            name: {"balance": round(budget.balance, 1), "taken": budget.taken, "refused": budget.refused}
            for name, budget in (("retries", targets.budget), ("hedging", targets.hedging))
        }
        data = [{"provider": name, "targets": lines} for name, lines in known.items()]
        return answer({"object": "providers", "data": data, "attempts": attempts, "budgets": budgets})

    async def explain(self, request: Request, principal: Principal) -> Response:
        """``POST /api/admin/routes/explain``: where a request would go, and why; nobody is called."""
        return answer(await self.explained(await read_body(request, Question)))

    async def explained(self, question: Question) -> Mapping[str, Any]:
        """The explanation. Raises :class:`~gatewaykit.errors.BadRequest` without a model, and
        :class:`~gatewaykit.errors.NotFound` for a request of which nothing is known.
        """
        past = await self._past(question.request_id) if question.request_id else {}
        model = question.model or past.get("model") or ""
        if not model:
            raise BadRequest("Name a model, or the id of a past request.", param="model")
        question.model = model
        question.stream = question.stream or bool(past.get("stream"))
        key = question.key or past.get("principal") or ""
        who = Principal(key or "explain", tenant=question.tenant or past.get("tenant") or "")
        document = explain(self._router, self._gateway.targets, self._book, _outlined(question, who))
        document["limits"] = limits_told(await self._gateway.standings(who)) if key else []
        if past:
            document["past"] = {**past, "attempts": happened(past["attempts"])}
        return document

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
    names = ("request_id", "model", "principal", "tenant", "stream", "outcome", "error", "status", "attempts")
    query = select(*(table.c[name] for name in names)).where(table.c.request_id == request_id).limit(1)
    row = session.execute(query).mappings().first()
    return None if row is None else dict(row)


def _outlined(question: Question, who: Principal) -> Call:
    """A call that looks to the router like the one that is asked about."""
    text = question.prompt
    if question.prompt_tokens is not None:
        text = text.ljust(min(question.prompt_tokens, 10_000_000) * _CHARACTERS_PER_TOKEN)
    content = (TextPart(text), ImagePart("data:,")) if question.images else text
    tools = (Tool("any"),) if question.tools else ()
    request = ChatRequest(
        question.model,
        (Message("user", content),),
        stream=question.stream,
        tools=tools,
        session=question.session or None,
    )
    headers = {name.lower(): value for name, value in question.headers.items()}
    return Call(Incoming("POST", "/", headers, None, "explain"), who, "explain", request)
