"""A gateway answers the same under every framework, on a real socket, and its host does not notice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from gatewaykit import GatewayMiddleware
from gatewaykit.testing import KEY, FakeProvider, make_gateway, plugin_of, serve, until

App = Callable[..., Awaitable[None]]
Mounting = Callable[[Any, str], App]


@asynccontextmanager
async def served(app: Any, key: str = KEY) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(app) as url,
        httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
        ) as client,
    ):
        yield client


def rooted(app: App, root: str) -> App:
    """The application as a server runs it that was told of a proxy's path (uvicorn's ``--root-path``)."""

    async def under_root(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": root, "path": root + scope["path"]}
        await app(scope, receive, send)

    return under_root


def chat(model: str, stream: bool = False) -> dict[str, Any]:
    return {"model": f"{model}/m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}


def events(lines: list[str]) -> list[Any]:
    payloads = [line.removeprefix("data: ") for line in lines if line]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def said(events: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events[:-1] for choice in event["choices"])


async def conforms(client: httpx.AsyncClient, stage: Any, prefix: str) -> None:
    """The requests that must be answered alike wherever the gateway is."""
    await answers_in_one_piece(client, prefix)
    await streams_as_it_comes(client, stage, prefix)
    await refuses(client, prefix)
    await breaks_off(client, stage, prefix)
    await notices_that_the_client_leaves(client, stage, prefix)


async def answers_in_one_piece(client: httpx.AsyncClient, prefix: str) -> None:
    answer = await client.post(f"{prefix}/v1/chat/completions", json=chat("good"), headers={"x-request-id": "mine"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
    models = await client.get(f"{prefix}/v1/models")
    assert [model["id"] for model in models.json()["data"]] == ["good-model"]
    assert (await client.get(f"{prefix}/livez")).json() == {"status": "ok"}
    assert (await client.get(f"{prefix}/readyz")).json() == {"status": "ok"}


async def streams_as_it_comes(client: httpx.AsyncClient, stage: Any, prefix: str) -> None:
    whole = await stream(client, stage, prefix, "held")
    assert said(whole) == "onetwo"
    assert whole[-1] == "[DONE]"


async def stream(client: httpx.AsyncClient, stage: Any, prefix: str, scene: str) -> list[Any]:
    """The events of a stream whose first word must arrive while the provider still waits for the gate."""
    stage.gate.clear()
    lines = []
    async with client.stream("POST", f"{prefix}/v1/chat/completions", json=chat(scene, stream=True)) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        async for line in answer.aiter_lines():
            lines.append(line)
            if '"one"' in line:
                stage.gate.set()
    return events(lines)


async def refuses(client: httpx.AsyncClient, prefix: str) -> None:
    stranger = await client.get(f"{prefix}/v1/models", headers={"Authorization": "Bearer wrong"})
    assert stranger.status_code == 401
    assert stranger.headers["www-authenticate"] == 'Bearer realm="gatewaykit"'
    assert stranger.json()["error"]["code"] == "invalid_api_key"
    model = await client.post(f"{prefix}/v1/chat/completions", json={**chat("good"), "messages": "hi"})
    assert (model.status_code, model.json()["error"]["param"]) == (400, "messages")
    method = await client.get(f"{prefix}/v1/chat/completions")
    assert (method.status_code, method.headers["allow"]) == (405, "POST")


async def breaks_off(client: httpx.AsyncClient, stage: Any, prefix: str) -> None:
    broken = await stream(client, stage, prefix, "breaks")
    assert broken[-1]["error"]["code"] == "provider_unavailable"


async def notices_that_the_client_leaves(client: httpx.AsyncClient, stage: Any, prefix: str) -> None:
    scene = stage.scenes["endless"]
    async with client.stream("POST", f"{prefix}/v1/chat/completions", json=chat("endless", stream=True)) as answer:
        async for line in answer.aiter_lines():
            if '"one"' in line:
                break
    await until(lambda: scene.closed == scene.opened == scene.cancelled)


async def is_untouched(client: httpx.AsyncClient) -> None:
    """The host's own routes answer as if there were no gateway."""
    assert (await client.get("/own")).text == "own GET "
    assert (await client.post("/own", content=b"body")).text == "own POST body"


async def test_every_host_conforms(mounting: Mounting, stage: Any) -> None:
    """Chats, streams, models, errors, and clients that leave: alike in every host, beside the host's own routes."""
    async with served(mounting(stage, "/llm")) as client:
        await conforms(client, stage, "/llm")
        await is_untouched(client)
        missing = await client.get("/llm/nope")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert stage.seen.count("enter") == stage.seen.count("leave") == 1
    assert stage.closings == [1, 1, 1, 1]


async def test_every_host_conforms_under_a_root_path(mounting: Mounting, stage: Any) -> None:
    """A proxy's path in front changes nothing, with a prefix two levels deep behind it."""
    async with served(rooted(mounting(stage, "/ai/llm"), "/proxy/a")) as client:
        await conforms(client, stage, "/ai/llm")
        await is_untouched(client)


async def test_the_gateway_lives_as_long_as_its_host(host: Any, stage: Any) -> None:
    """It is up before the host says so, down before the server hears that the host is; each happens once."""
    app = GatewayMiddleware(host.make(stage.seen), stage.gateway, prefix="/llm")
    async with served(app) as client:
        assert stage.seen == (["host up", "enter"] if host.has_lifespan else ["enter"])
        assert (await client.get("/llm/readyz")).status_code == 200
    assert stage.seen[len(stage.seen) // 2 :] == (["host down", "leave"] if host.has_lifespan else ["leave"])
    assert stage.closings == [1, 1, 1, 1]


async def test_the_server_hears_of_the_end_when_everything_is_closed(stage: Any, starlette_host: Any) -> None:
    """A server may end the event loop at once when it hears that the shutdown is complete: nothing may be left."""
    app = GatewayMiddleware(starlette_host(stage.seen), stage.gateway, prefix="/llm")
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    at_answer: dict[str, list[str]] = {}

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    async def send(message: dict[str, Any]) -> None:
        at_answer[message["type"]] = [*stage.seen]

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert at_answer["lifespan.startup.complete"][-1] == "enter"
    assert at_answer["lifespan.shutdown.complete"][-1] == "leave"


async def test_without_a_prefix_the_gateway_takes_its_own_paths_only(host: Any, stage: Any) -> None:
    """Its dialects' and routes' paths are the gateway's, every other is the host's, unknown ones too."""
    async with served(GatewayMiddleware(host.make(stage.seen), stage.gateway)) as client:
        await conforms(client, stage, "")
        await is_untouched(client)
        assert "not_found" not in (await client.get("/v1/nope")).text


async def test_a_prefix_is_a_path_and_not_a_beginning(stage: Any, starlette_host: Any) -> None:
    """``/llmx`` is not below ``/llm``, under a root path that looks alike too."""
    host = starlette_host(stage.seen, Route("/llmx/v1/models", lambda request: JSONResponse("the host's")))
    app = GatewayMiddleware(host, stage.gateway, prefix="/llm")
    for application in (app, rooted(app, "/llm"), rooted(app, "/ll")):
        async with served(application) as client:
            assert (await client.get("/llmx/v1/models")).json() == "the host's"
            assert "data" in (await client.get("/llm/v1/models")).json()
            assert (await client.get("/llm")).status_code == 404


@pytest.mark.parametrize("prefix", ["llm", "/llm/", "/"])
def test_a_prefix_that_cannot_be_is_refused(stage: Any, prefix: str) -> None:
    """A slash in front and none behind, or nothing at all."""
    with pytest.raises(ValueError, match="prefix must begin with"):
        GatewayMiddleware(Starlette(), stage.gateway, prefix=prefix)


async def test_two_gateways_in_one_process_do_not_mix(starlette_host: Any) -> None:
    """Each has its own keys, providers, limits and life, behind one another or mounted side by side."""

    def gateway(name: str, limit: int) -> Any:
        return make_gateway(
            plugin_of(providers=[FakeProvider(name=name, models=[f"{name}-model"])]),
            static_keys={"keys": {"only": f"gk_{name}_0123456789abcdefghij"}},
            server={"max_body_bytes": limit},
        )

    one, two = gateway("one", 1000), gateway("two", 10)
    stacked = GatewayMiddleware(GatewayMiddleware(starlette_host([]), one, prefix="/one"), two, prefix="/two")
    beside = Starlette(routes=[Mount("/one", one), Mount("/two", two)])
    for app in (stacked, beside):
        async with served(app) as client:
            for mine, other in (("one", "two"), ("two", "one")):
                client.headers["Authorization"] = f"Bearer gk_{mine}_0123456789abcdefghij"
                models = await client.get(f"/{mine}/v1/models")
                assert [model["id"] for model in models.json()["data"]] == [f"{mine}-model"]
                assert (await client.get(f"/{other}/v1/models")).status_code == 401
                answer = await client.post(f"/{mine}/v1/chat/completions", json=chat(mine))
                assert answer.status_code == {"one": 200, "two": 413}[mine]
    for gateway_ in (one, two):
        await gateway_.stop()


async def test_a_base_http_middleware_in_front_does_not_hold_streams_back(stage: Any, starlette_host: Any) -> None:
    """Starlette's slow kind of middleware sees every answer; streams still flow, and clients that leave are noticed."""

    async def dispatch(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-seen"] = "yes"
        return response

    app = starlette_host(stage.seen)
    app.add_middleware(GatewayMiddleware, gateway=stage.gateway, prefix="/llm")
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    async with served(app) as client:
        await conforms(client, stage, "/llm")
        assert (await client.get("/own")).headers["x-seen"] == "yes"
        assert (await client.get("/llm/v1/models")).headers["x-seen"] == "yes"


async def test_a_middleware_that_reads_the_body_first_leaves_it_to_the_gateway(stage: Any, starlette_host: Any) -> None:
    """What a host's middleware has read of the request comes to the gateway all the same."""

    async def dispatch(request: Any, call_next: Any) -> Response:
        assert await request.body()
        response: Response = await call_next(request)
        return response

    app = starlette_host(stage.seen)
    app.add_middleware(GatewayMiddleware, gateway=stage.gateway, prefix="/llm")
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    async with served(app) as client:
        await answers_to_a_body(client)
        await streams_as_it_comes(client, stage, "/llm")
        await notices_that_the_client_leaves(client, stage, "/llm")


async def test_a_client_that_leaves_is_no_failure_of_the_host(
    stage: Any, starlette_host: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Starlette's slow kind of middleware insists on a response: it gets one, and has nothing to complain of."""

    async def dispatch(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    app = starlette_host(stage.seen)
    app.add_middleware(GatewayMiddleware, gateway=stage.gateway, prefix="/llm")
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    scene = stage.scenes["endless"]
    async with served(app) as client:
        call = asyncio.create_task(client.post("/llm/v1/chat/completions", json=chat("endless")))
        await until(lambda: scene.opened == 1)
        call.cancel()
        await until(lambda: scene.closed == 1)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def answers_to_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.post("/llm/v1/chat/completions", json=chat("good"))
    assert answer.json()["choices"][0]["message"]["content"] == "Hello!"


async def test_a_host_that_does_not_start_takes_the_gateway_down(stage: Any) -> None:
    """When the host's startup fails the server hears the host's reason, and the gateway is not left running."""

    @asynccontextmanager
    async def broken(app: object) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    app = GatewayMiddleware(Starlette(lifespan=broken), stage.gateway, prefix="/llm")
    with pytest.raises(RuntimeError, match="did not start"):
        async with serve(app):
            pass
    assert stage.seen.count("enter") == stage.seen.count("leave")
    assert not stage.gateway.ready


async def test_a_gateway_that_does_not_start_keeps_its_host_from_starting(stage: Any, starlette_host: Any) -> None:
    """The server hears of it as of a failure of the host's own, without the error's text."""

    gateway = make_gateway(plugin_of(providers=[WithoutDoor()]))
    answers: list[dict[str, Any]] = []
    messages = iter(["lifespan.startup"])

    async def receive() -> dict[str, str]:
        try:
            return {"type": next(messages)}
        except StopIteration:
            return await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    app = GatewayMiddleware(starlette_host(stage.seen), gateway, prefix="/llm")
    task = asyncio.create_task(app({"type": "lifespan", "state": {}}, receive, send))  # type: ignore[arg-type]
    await until(lambda: answers)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answers[0] == {"type": "lifespan.startup.failed", "message": "gateway: RuntimeError"}


class WithoutDoor(FakeProvider):
    """A provider whose lifespan cannot be entered."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        raise RuntimeError("secret reason")
        yield


async def test_websockets_and_unknown_scopes_are_the_host_s(stage: Any) -> None:
    """The gateway takes HTTP requests below its prefix and nothing else."""
    passed: list[str] = []

    async def host(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    app = GatewayMiddleware(host, stage.gateway, prefix="/llm")
    for kind in ("websocket", "custom"):
        await app({"type": kind, "path": "/llm/v1/models"}, None, None)
    assert passed == ["websocket", "custom"]
