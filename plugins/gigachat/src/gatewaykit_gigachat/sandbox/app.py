"""The sandbox as a Starlette application."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from . import account, chat, control, embeddings, files, functions, models, oauth
from .call import WIRE, Endpoint, Handler, refuse_http
from .refusals import html_refusal
from .settings import SandboxSettings
from .state import Sandbox
from .wire import Wire

OLD_PREFIX = "/api/v1"
NEW_PREFIX = "/v1"
OAUTH_PATH = "/api/v2/oauth"

_ENDPOINTS: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/models", models.list_models),
    ("GET", "/models/{id}", models.get_model),
    ("POST", "/chat/completions", chat.chat),
    ("POST", "/embeddings", embeddings.embeddings),
    ("GET", "/files", files.list_files),
    ("POST", "/files", files.upload_file),
    ("GET", "/files/{id}", files.get_file),
    ("GET", "/files/{id}/content", files.get_content),
    ("POST", "/files/{id}/delete", files.delete_file),
    ("POST", "/tokens/count", account.count),
    ("GET", "/balance", account.balance),
    ("POST", "/functions/validate", functions.validate_function),
)

_ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")


class _App(Starlette):
    """Keeps the server's own ``send`` in reach, which alone knows the socket."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[WIRE] = Wire(receive, send)
        await super().__call__(scope, receive, send)


def create_sandbox(settings: SandboxSettings | None = None) -> Starlette:
    """A new sandbox with a state of its own, ``app.state.sandbox``."""
    settings = settings or SandboxSettings()
    app = _App(routes=list(_routes(control_api=settings.control_api)), exception_handlers={HTTPException: refuse_http})
    app.router.redirect_slashes = False
    app.state.sandbox = Sandbox(settings)
    return app


def _routes(*, control_api: bool) -> Iterator[BaseRoute]:
    yield Route(OAUTH_PATH, Endpoint("/oauth", oauth.oauth, public=True), methods=["POST"])
    for prefix in (OLD_PREFIX, NEW_PREFIX):
        yield Route(f"{prefix}/token", Endpoint("/token", oauth.token, public=True), methods=["POST"])
        for method, path, handler in _ENDPOINTS:
            yield Route(prefix + path, Endpoint(path, handler), methods=[method])
    for prefix in ("/api/v2", "/v2"):
        yield Route(prefix + "/{rest:path}", _front_page, methods=_ANY)
    if control_api:
        yield Route("/_sandbox/faults", control.faults, methods=["GET", "POST", "DELETE"])
        yield Route("/_sandbox/stats", control.stats)


async def _front_page(request: Request) -> Response:
    """What the front-end answers to v2 paths that do not exist."""
    return html_refusal(403).response({})
