"""Guarded routes: who may not is refused as JSON, and nothing that goes wrong is told to a client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from gatewaykit import Authenticator, Gateway, GatewayMiddleware, Incoming, Unavailable
from gatewaykit.guarding import MAX_BODY_BYTES, answer, guarded, incoming_of, read_body, read_query
from gatewaykit.hookspecs import hookimpl
from gatewaykit.testing import gateway_client, make_gateway, serve, until
from gatewaykit.types import ADMIN, INFERENCE, KEYS, USAGE, Principal

SECRET = "the address of the store and its password"
PRINCIPALS = {
    "plain": Principal("plain"),
    "keys": Principal("keys", scopes=frozenset({KEYS})),
    "admin": Principal("admin", scopes=frozenset({ADMIN})),
    "narrow": Principal("narrow", routes=("/v1/*", "/api/t?ings/[ab]"), scopes=frozenset({USAGE, ADMIN})),
}


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    rpm: int | None = None


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    models: tuple[str, ...] = ()
    limits: Limits = msgspec.field(default_factory=Limits)
    anything: Any = None


class Query(msgspec.Struct, forbid_unknown_fields=True):
    limit: int = 50
    owner: str | None = None


class Doors(Authenticator):
    """Knows the principals above; the key is the name."""

    name = "doors"

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        key = incoming.headers.get("x-api-key")
        if key == "down":
            raise Unavailable(retry_after=3, detail=SECRET)
        return PRINCIPALS.get(key or "")


class Things:
    """A plugin with a guarded route for each scope, and for each thing that may go wrong."""

    name = "things"

    def __init__(self) -> None:
        self.entered = self.left = 0
        self.gate = asyncio.Event()

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [Doors()]

    @hookimpl
    def gateway_routes(self, gateway: Any) -> list[Route]:
        def route(path: str, endpoint: Any, scope: str = USAGE, **options: Any) -> Route:
            return Route(path, guarded(gateway, scope, endpoint), **options)

        return [
            route("/api/call", self.show, INFERENCE),
            route("/api/usage", self.show, USAGE),
            route("/api/keys", self.show, KEYS),
            route("/api/admin", self.show, ADMIN),
            route("/api/things/{name}", self.show, USAGE),
            route("/api/things", self.make, methods=["POST"]),
            route("/api/find", self.find),
            route("/api/crash", self.crash),
            route("/api/odd", self.odd),
            route("/api/slow", self.slow),
            route("/api/break", self.break_off),
        ]

    async def show(self, request: Request, principal: Principal) -> Response:
        assert incoming_of(request) is incoming_of(request)
        return answer({"id": principal.id, **request.path_params})

    async def make(self, request: Request, principal: Principal) -> Response:
        return answer(await read_body(request, Thing), 201)

    async def find(self, request: Request, principal: Principal) -> Response:
        return answer(read_query(request, Query))

    async def crash(self, request: Request, principal: Principal) -> Response:
        raise RuntimeError(SECRET)

    async def odd(self, request: Request, principal: Principal) -> Response:
        return answer(object())

    async def slow(self, request: Request, principal: Principal) -> Response:
        self.entered += 1
        try:
            await read_body(request, Thing)
        finally:
            self.left += 1
        return answer({})

    async def break_off(self, request: Request, principal: Principal) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"some"
            raise RuntimeError(SECRET)

        return StreamingResponse(body())


@pytest.fixture
def things() -> Things:
    return Things()


@pytest.fixture
async def client(things: Things) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key: each test brings one."""
    async with gateway_client(make_gateway(things)) as found:
        del found.headers["authorization"]
        yield found


def key(name: str) -> dict[str, str]:
    return {"x-api-key": name}


# Who may


async def test_without_a_valid_key_there_is_a_challenge(client: httpx.AsyncClient) -> None:
    """401 with WWW-Authenticate (RFC 9110, 11.6.1); a key that nobody knows is called invalid."""
    for headers in ({}, key("stranger")):
        refused = await client.get("/api/usage", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="gatewaykit"'
        assert refused.json()["error"]["code"] == "invalid_api_key"
    assert "not valid" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("plain", {"/api/call", "/api/usage"}),
        ("keys", {"/api/keys"}),
        ("admin", {"/api/usage", "/api/keys", "/api/admin"}),
    ],
)
async def test_each_scope_opens_its_own_routes(client: httpx.AsyncClient, name: str, reached: set[str]) -> None:
    """Others are 403 and say which scope is missing; ``admin`` opens all but the calling of models."""
    for path, scope in {"/api/call": INFERENCE, "/api/usage": USAGE, "/api/keys": KEYS, "/api/admin": ADMIN}.items():
        got = await client.get(path, headers=key(name))
        assert got.status_code == (200 if path in reached else 403), path
        if path not in reached:
            assert repr(scope) in got.json()["error"]["message"]


async def test_a_key_reaches_only_the_routes_of_its_globs(client: httpx.AsyncClient) -> None:
    """Whatever its scopes are; the path counts as it was decoded."""
    for path, status in {
        "/api/things/a": 200,
        "/api/t%68ings/b": 200,
        "/api/things/c": 403,
        "/api/admin": 403,
        "/api/usage": 403,
    }.items():
        assert (await client.get(path, headers=key("narrow"))).status_code == status, path


async def test_an_authenticator_that_is_down_is_a_503_with_a_time(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The client reads when to come back and not why; the log has the reason under the request's id."""
    refused = await client.get("/api/usage", headers={**key("down"), "x-request-id": "the-one"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert SECRET not in refused.text
    assert any("the-one" in record.message and SECRET in record.message for record in caplog.records)


# What they send

BAD_BODIES = {
    "nothing": (b"", "name", "Object missing required field `name`."),
    "a space": (b" ", None, None),
    "not JSON": (b"{", None, None),
    "not UTF-8": (b'{"name": "\xff"}', None, None),
    "half a surrogate pair": (b'{"name": "\\ud800"}', None, None),
    "nested too deep": (b'{"name": "x", "anything": ' + b"[" * 100_000, None, None),
    "not an object": (b"[]", None, "Expected `object`, got `array`."),
    "a form": (b"name=x", None, None),
    "no name": (b"{}", "name", "Object missing required field `name`."),
    "wrong kind": (b'{"name": 1}', "name", "Expected `str`, got `int`."),
    "wrong kind inside": (b'{"name": "x", "models": ["a", 1]}', "models[1]", "Expected `str`, got `int`."),
    "unknown field": (b'{"name": "x", "nmae": 1}', "nmae", "Object contains unknown field `nmae`."),
    "unknown field inside": (
        b'{"name": "x", "limits": {"rmp": 1}}',
        "limits.rmp",
        "Object contains unknown field `rmp`.",
    ),
    "endless number": (b'{"name": "x", "limits": {"rpm": ' + b"9" * 5000 + b"}}", "limits.rpm", None),
}


@pytest.mark.parametrize(("body", "param", "message"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_that_cannot_be_read_is_a_400(
    client: httpx.AsyncClient, body: bytes, param: str | None, message: str | None
) -> None:
    """The error names the field with its whole path, or speaks of the body."""
    refused = await client.post("/api/things", content=body, headers=key("plain"))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    if message is not None:
        assert error["message"] == message


async def test_an_endless_field_name_is_not_sent_back_whole(client: httpx.AsyncClient) -> None:
    """What a client sends is repeated in part at most."""
    refused = await client.post("/api/things", json={"n" * 100_000: 1}, headers=key("plain"))
    assert refused.status_code == 400
    assert len(refused.content) < 1000


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=100) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "models", "limits", "rpm"]) | st.text(max_size=5), inner, max_size=4),
).map(msgspec.json.encode))  # fmt: skip
def test_no_body_at_all_is_a_500(wire: Any, body: bytes) -> None:
    """Whatever bytes come, they are taken or refused."""

    async def main() -> Any:
        async with make_gateway(Things()) as gateway:
            request = wire(gateway, "/api/things")
            request.scope["headers"] = [(b"x-api-key", b"plain")]
            request.pieces = [body]
            return await request.run()

    done = asyncio.run(main())
    assert done.status in {201, 400}
    if done.status == 400:
        assert set(done.error) == {"message", "type", "param", "code"}


async def test_a_large_body_is_taken_up_to_the_limit(client: httpx.AsyncClient) -> None:
    """One byte more is a 413, which a client that sends 4 MB before it reads can still read."""
    start, end = b'{"name": "', b'"}'
    whole = start + b"x" * (MAX_BODY_BYTES - len(start) - len(end)) + end
    for body, status in {whole: 201, whole + b" ": 413, b" " * 2**22: 413}.items():
        got = await client.post("/api/things", content=body, headers=key("plain"))
        assert got.status_code == status
    assert got.json()["error"]["code"] == "body_too_large"


async def test_an_endless_body_is_cut(wire: Any, things: Things) -> None:
    """Not even throwing it away goes on for ever."""
    async with make_gateway(things) as gateway:
        request = wire(gateway, "/api/things")
        request.scope["headers"] = [(b"x-api-key", b"plain")]
        request.pieces = [b"x" * MAX_BODY_BYTES] * 200
        done = await request.run()
    assert (done.status, done.headers["connection"]) == (413, "close")
    assert len(request.pieces) > 100


async def test_a_body_that_does_not_come_is_a_408(wire: Any, things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the connection is closed, for nobody knows where the next request begins."""
    monkeypatch.setattr("gatewaykit.guarding.BODY_SECONDS", 0.01)
    async with make_gateway(things) as gateway:
        request = wire(gateway, "/api/things")
        request.scope["headers"] = [(b"x-api-key", b"plain")]
        request.more_to_come = True
        done = await request.run()
    assert (done.status, done.error["code"], done.headers["connection"]) == (408, "request_timeout", "close")


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=x", "limit"), ("limti=5", "limti"), ("limit=1&limit=2", "limit"), ("limit=1.5", "limit"), ("=1", None)],
)
async def test_a_query_that_cannot_be_read_is_a_400(client: httpx.AsyncClient, query: str, param: str | None) -> None:
    """The error names the parameter, one that does not exist or comes twice too."""
    refused = await client.get(f"/api/find?{query}", headers=key("plain"))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_a_query_is_read_by_its_types(client: httpx.AsyncClient) -> None:
    """Numbers are numbers, and text stays what it is."""
    found = await client.get("/api/find", params={"limit": "7", "owner": "8"}, headers=key("plain"))
    assert found.json() == {"limit": 7, "owner": "8"}


# What goes wrong


@pytest.mark.parametrize("path", ["/api/crash", "/api/odd"])
async def test_a_crash_is_a_500_without_a_word_of_why(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Neither the error nor its place; the log has both under the request's id."""
    got = await client.get(path, headers={**key("plain"), "x-request-id": "the-one"})
    assert (got.status_code, got.json()["error"]["code"]) == (500, "internal_error")
    assert "Error" not in got.text
    assert SECRET not in got.text
    (record,) = [record for record in caplog.records if record.name == "gatewaykit.guarding"]
    assert record.levelno == logging.ERROR
    assert "the-one" in record.getMessage()
    assert record.exc_info


async def test_an_answer_that_breaks_off_is_not_completed(client: httpx.AsyncClient) -> None:
    """After it began nothing can be taken back: the connection is cut, so that half an answer is not taken for one."""
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/api/break", headers=key("plain"))


async def test_every_answer_has_an_id_and_is_not_stored(client: httpx.AsyncClient) -> None:
    """Good ones and bad ones; a harmless id of the client's is kept."""
    for path, name, status in [
        ("/api/usage", "plain", 200),
        ("/api/usage", "", 401),
        ("/api/admin", "plain", 403),
        ("/api/crash", "plain", 500),
        ("/api/find?x=1", "plain", 400),
    ]:
        got = await client.get(path, headers={**key(name), "x-request-id": "kept-as-it-is"})
        assert got.status_code == status
        assert got.headers["x-request-id"] == "kept-as-it-is"
        assert got.headers["cache-control"] == "no-store"
        assert got.headers["content-type"] == "application/json"


async def test_a_client_that_dies_leaves_nothing(things: Things, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is cut in the middle of a body ends the endpoint, without an error in the log."""
    async with serve(make_gateway(things)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /api/slow HTTP/1.1\r\nhost: x\r\nx-api-key: plain\r\ncontent-length: 9\r\n\r\n{")
        await until(lambda: things.entered == 1)
        writer.transport.abort()
        await until(lambda: things.left == 1)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_nothing_is_sent_to_a_client_that_has_left(
    wire: Any, things: Things, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers that raise when one does are spared."""
    async with make_gateway(things) as gateway:
        request = wire(gateway, "/api/slow", "GET")
        request.scope["headers"] = [(b"x-api-key", b"plain")]
        request.more_to_come = request.raises = True
        task = asyncio.create_task(request.run())
        await until(lambda: request.listened_to)
        request.hang_up()
        await task
    assert request.sent == []
    assert things.left == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


# Below a mount point


def middleware(gateway: Gateway) -> Any:
    return GatewayMiddleware(Starlette(), gateway, prefix="/llm")


def mount(gateway: Gateway) -> Any:
    return Starlette(routes=[Mount("/llm", gateway)], lifespan=gateway.lifespan)


@pytest.mark.parametrize("host", [middleware, mount])
async def test_guarded_routes_work_below_a_mount_point(host: Any, things: Things) -> None:
    """Globs of routes speak of the path below it."""
    async with gateway_client(host(make_gateway(things))) as client:
        del client.headers["authorization"]
        assert (await client.get("/llm/api/things/a", headers=key("narrow"))).json() == {"id": "narrow", "name": "a"}
        assert (await client.get("/llm/api/things/c", headers=key("narrow"))).status_code == 403
        assert (await client.post("/llm/api/things", headers=key("plain"), json={"name": "x"})).status_code == 201


async def test_guarded_routes_work_under_a_proxys_path(wire: Any, things: Things) -> None:
    """As servers tell it that were given a root path."""
    async with make_gateway(things) as gateway:
        request = wire(gateway, "/llm/api/things/a", "GET")
        request.scope |= {"root_path": "/llm", "headers": [(b"x-api-key", b"narrow")]}
        assert (await request.run()).status == 200


async def test_a_path_without_the_method_is_a_405(client: httpx.AsyncClient) -> None:
    """Told before anybody is asked for a key."""
    assert (await client.get("/api/things")).status_code == 405
