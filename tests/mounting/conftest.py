"""Host applications of every framework, each with routes of its own, and a gateway that plays scenes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import django
import litestar
import pytest
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path as django_path
from fastapi import FastAPI
from quart import Quart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from gatewaykit import Finished, GatewayMiddleware, ProviderUnavailable, TextDelta, hookimpl
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of

App = Callable[..., Awaitable[None]]


@dataclass
class Stage:
    """A gateway whose providers are scenes: ``held`` goes on and ``breaks`` breaks off after one word when the ``gate``
    opens, ``endless`` never does.
    """

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        word = TextDelta("one")
        self.scenes = {
            "good": FakeProvider(name="good", models=["good-model"]),
            "held": FakeProvider(word, self.gate, TextDelta("two"), Finished(), name="held"),
            "breaks": FakeProvider(word, self.gate, ProviderUnavailable(), name="breaks"),
            "endless": FakeProvider(word, asyncio.Event(), name="endless"),
        }
        self.gateway = make_gateway(plugin_of(providers=self.scenes.values()), self)

    name = "stage"

    @hookimpl
    def gateway_lifespan(self) -> Any:
        return [self.live()]

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        self.seen.append("enter")
        yield
        self.seen.append("leave")

    @property
    def closings(self) -> list[int]:
        return [scene.closings for scene in self.scenes.values()]


@pytest.fixture
def stage() -> Stage:
    """A gateway with scenes."""
    return Stage()


@pytest.fixture
def new_stage() -> type[Stage]:
    """For tests that need several."""
    return Stage


# Hosts: each takes what happens in its lifespan, if it has one, and answers GET /own and POST /own


@asynccontextmanager
async def noted(seen: list[str]) -> AsyncIterator[None]:
    seen.append("host up")
    yield
    seen.append("host down")


async def own(request: Request) -> Response:
    return PlainTextResponse(f"own {request.method} {(await request.body()).decode()}")


def starlette(seen: list[str], *routes: Any, **options: Any) -> Starlette:
    return Starlette(
        routes=[Route("/own", own, methods=["GET", "POST"]), *routes], lifespan=lambda app: noted(seen), **options
    )


def fastapi(seen: list[str]) -> FastAPI:
    app = FastAPI(lifespan=lambda app: noted(seen))
    app.add_api_route("/own", own, methods=["GET", "POST"])
    return app


def litestar_app(seen: list[str]) -> litestar.Litestar:
    async def handle(request: litestar.Request[Any, Any, Any]) -> str:
        return f"own {request.method} {(await request.body()).decode()}"

    handler = litestar.route("/own", http_method=["GET", "POST"], media_type="text/plain", status_code=200)(handle)
    return litestar.Litestar([handler], lifespan=[lambda app: noted(seen)], openapi_config=None)


def quart(seen: list[str]) -> Quart:
    from quart import request

    app = Quart("host")

    @app.route("/own", methods=["GET", "POST"])
    async def handle() -> str:
        return f"own {request.method} {(await request.get_data()).decode()}"

    @app.while_serving
    async def serving() -> AsyncIterator[None]:
        async with noted(seen):
            yield

    return app


async def _django_own(request: Any) -> HttpResponse:
    return HttpResponse(f"own {request.method} {request.body.decode()}")


def django_app(seen: list[str]) -> App:
    if not django_settings.configured:
        django_settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF=(django_path("own", _django_own),), LOGGING_CONFIG=None, SECRET_KEY="test"
        )
        django.setup()
    application: App = get_asgi_application()
    return application


async def _answer(receive: Any, send: Any, method: str) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"own {method} ".encode() + body})


def plain_that_raises(seen: list[str]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await _answer(receive, send, scope["method"])

    return app


def plain_that_ignores(seen: list[str]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await _answer(receive, send, scope["method"])

    return app


def plain_that_answers_anything(seen: list[str]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _answer(receive, send, scope.get("method", ""))

    return app


def plain_that_takes_the_startup(seen: list[str]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await receive()
            raise ValueError("I only know HTTP")
        await _answer(receive, send, scope["method"])

    return app


HOSTS: dict[str, Callable[[list[str]], Any]] = {
    "fastapi": fastapi,
    "starlette": starlette,
    "litestar": litestar_app,
    "quart": quart,
    "django": django_app,
    "plain, raises": plain_that_raises,
    "plain, ignores": plain_that_ignores,
    "plain, answers": plain_that_answers_anything,
    "plain, receives": plain_that_takes_the_startup,
}
WITH_LIFESPAN = {"fastapi", "starlette", "litestar", "quart"}


def wrapped(make: Callable[[list[str]], Any]) -> Callable[[Stage, str], App]:
    return lambda stage, prefix: GatewayMiddleware(make(stage.seen), stage.gateway, prefix=prefix)


def inside_starlette(stage: Stage, prefix: str) -> App:
    app = starlette(stage.seen)
    app.add_middleware(GatewayMiddleware, gateway=stage.gateway, prefix=prefix)
    return app


def mounted(stage: Stage, prefix: str) -> App:
    routes = [Route("/own", own, methods=["GET", "POST"]), Mount(prefix, stage.gateway)]
    return Starlette(routes=routes, lifespan=stage.gateway.lifespan)


def mounted_in_fastapi(stage: Stage, prefix: str) -> App:
    app = FastAPI(lifespan=stage.gateway.lifespan)
    app.add_api_route("/own", own, methods=["GET", "POST"])
    app.mount(prefix, stage.gateway)
    return app


MOUNTINGS: dict[str, Callable[[Stage, str], App]] = {
    **{name: wrapped(make) for name, make in HOSTS.items()},
    "starlette's middleware": inside_starlette,
    "starlette's mount": mounted,
    "fastapi's mount": mounted_in_fastapi,
}


@pytest.fixture(params=MOUNTINGS)
def mounting(request: pytest.FixtureRequest) -> Callable[[Stage, str], App]:
    """Every way to put a gateway into an application: called with a stage and a prefix, it gives the application."""
    return MOUNTINGS[request.param]


@dataclass(frozen=True)
class Host:
    """An application that knows nothing of gateways."""

    make: Callable[[list[str]], Any]
    has_lifespan: bool


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    """Every kind of host."""
    return Host(HOSTS[request.param], request.param in WITH_LIFESPAN)


@pytest.fixture
def starlette_host() -> Callable[..., Starlette]:
    """A Starlette application with routes of its own."""
    return starlette
