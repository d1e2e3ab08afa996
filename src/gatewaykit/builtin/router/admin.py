"""``/api/admin/routes`` and ``/api/admin/providers``: the table, its reload, explanations, and how targets are."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.builtin.router.asking import Explainer, Question
from gatewaykit.builtin.router.explaining import told
from gatewaykit.builtin.router.managed import joined, locked, model_of, write
from gatewaykit.builtin.router.managed import read as managed_models
from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.builtin.router.settings import ModelTable, RouterSettings
from gatewaykit.errors import BadRequest, ConfigError, NotFound, Unavailable
from gatewaykit.guarding import answer, read_body
from gatewaykit.protocols import GatewayContext, Reloaded
from gatewaykit.types import Principal

_LONGEST_NAME = 256


class Admin:
    """Answers of one gateway's router."""

    def __init__(self, router: ModelRouter, gateway: GatewayContext) -> None:
        self._router = router
        self._gateway = gateway
        self._explainer = Explainer(router, gateway)

    async def routes(self, request: Request, principal: Principal) -> Response:
        """``GET /api/admin/routes``: the table in force."""
        settings = self._router.settings
        return answer({"object": "routes", **settings.model_dump(mode="json"), "managed": self._router.managed})

    async def put(self, request: Request, principal: Principal) -> Response:
        """``PUT /api/admin/routes/models/NAME``: make or change a model; with faults nothing changes."""
        name, model = request.path_params["name"], await read_body(request, dict[str, Any])
        if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise BadRequest("This cannot be the name of a model.", param="name")
        put = (await asyncio.to_thread(self._change, name, model))[name]
        self._reload("The file is written, and not in force")
        return answer({"object": "model", "name": name, **put.model_dump(mode="json")})

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

    def _change(self, name: str, document: Any) -> dict[str, ModelTable]:
        """Write the file anew with this model, or without it, if the whole table is right then; the models in it."""
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
                return models
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
        mirrors = [{"target": str(target), **structs.asdict(copies)} for target, copies in self._router.copies.items()]
        data = [{"provider": name, "targets": lines} for name, lines in known.items()]
        return answer(
            {"object": "providers", "data": data, "attempts": attempts, "budgets": budgets, "mirrors": mirrors}
        )

    async def explain(self, request: Request, principal: Principal) -> Response:
        """``POST /api/admin/routes/explain``: where a request would go, and why; nobody is called."""
        return answer(await self._explainer.explained(await read_body(request, Question)))
