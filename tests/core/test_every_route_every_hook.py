"""No route skips a hook: every dialect route × every hook × streamed or not × standalone or mounted.

Routes are asked of the gateway, so a new dialect is covered by being there; all it needs is a sample request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gatewaykit import (
    AroundCall,
    Authenticator,
    AuthFailed,
    Call,
    CallRecord,
    ChatRequest,
    Dialect,
    Encoder,
    Event,
    Finished,
    Gateway,
    GatewayError,
    GatewayMiddleware,
    Incoming,
    Limiter,
    Message,
    Model,
    Observer,
    Principal,
    Proceed,
    Provider,
    RateLimited,
    Reply,
    Router,
    Target,
    TextDelta,
    Transform,
    Usage,
)
from gatewaykit.stepping import closing
from gatewaykit.testing import make_gateway, plugin_of

ALWAYS = {
    "authenticate",
    "acquire",
    "settle",
    "on_request",
    "on_event",
    "around",
    "record",
}


Note = Callable[[str], None]


class Door(Authenticator):
    name = "probe-door"
    tier = -1000

    def __init__(self, note: Note) -> None:
        self._note = note

    async def authenticate(self, incoming: Incoming) -> Principal:
        self._note("authenticate")
        return Principal("probe")


class Held:
    headers = (("x-probe-limit", "here"),)

    def __init__(self, note: Note) -> None:
        self._note = note

    async def settle(self, usage: Usage | None) -> None:
        self._note("settle")

    async def release(self) -> None:
        self._note("release")


class Limit(Limiter):
    name = "probe-limit"

    def __init__(self, note: Note) -> None:
        self._note = note

    async def acquire(self, call: Call) -> Held:
        self._note("acquire")
        return Held(self._note)


class Map(Router):
    name = "probe-map"
    before = ("models",)

    def __init__(self, note: Note) -> None:
        self._note = note

    def route(self, call: Call) -> list[Target]:
        self._note("route")
        return [Target("probe", "m")]

    async def models(self, call: Call) -> list[Model]:
        self._note("models")
        return [Model("m")]


class Change(Transform):
    name = "probe-change"

    def __init__(self, note: Note) -> None:
        self._note = note

    def on_request(self, call: Call) -> None:
        self._note("on_request")

    def on_event(self, call: Call, event: Event) -> Event:
        self._note("on_event")
        return event

    def on_reply(self, call: Call, reply: Reply) -> Reply:
        self._note("on_reply")
        return reply


class Wrap(AroundCall):
    name = "probe-wrap"

    def __init__(self, note: Note) -> None:
        self._note = note

    async def around(self, call: Call, proceed: Proceed) -> AsyncIterator[Event]:
        self._note("around")
        async with closing(proceed(call)) as events:
            async for event in events:
                yield event


class Source(Provider):
    name = "probe"

    def __init__(self, note: Note) -> None:
        self._note = note

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self._note("stream")
        yield TextDelta("hello")
        yield Finished()

    async def embed(self, call: Call, target: Target) -> Reply:
        """Vectors are asked for in another way; for the hooks it is the same call."""
        self._note("stream")
        return Reply(vectors=((0.5,),))


class Watcher(Observer):
    name = "probe-watcher"

    def __init__(self, note: Note) -> None:
        self._note = note
        self.records: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self._note("record")
        self.records.append(record)


class Probe:
    """One object for each hook; ``called`` is who was, ``refusing`` which of them refuses."""

    def __init__(self, refusing: str = "") -> None:
        self.called: list[str] = []
        self._refusing = refusing
        watcher = Watcher(self._note)
        self.records = watcher.records
        self.plugin = plugin_of(
            authenticators=[Door(self._note)],
            limiters=[Limit(self._note)],
            routers=[Map(self._note)],
            transforms=[Change(self._note)],
            around_calls=[Wrap(self._note)],
            providers=[Source(self._note)],
            observers=[watcher],
        )

    def _note(self, hook: str) -> None:
        self.called.append(hook)
        if hook == self._refusing:
            raise {"authenticate": AuthFailed, "acquire": RateLimited}[hook]


class Telegraph(Dialect):
    """A wire format that a plugin brings: the text is the path, the answer is plain bytes, streamed if asked to."""

    name = "telegraph"
    routes = (("POST", "/telegraph"), ("PUT", "/telegraph/*"))

    def decode(self, incoming: Incoming, body: bytes) -> ChatRequest:
        return ChatRequest("m", (Message("user", incoming.path),), stream=body == b"stream")

    def encoder(self, call: Call) -> Encoder:
        return Keys()

    def encode_reply(self, call: Call, reply: Reply) -> bytes:
        return reply.choices[0].text.encode()

    def encode_error(self, error: GatewayError, request_id: str) -> bytes:
        return error.code.encode()


class Keys(Encoder):
    def encode(self, event: Event) -> bytes:
        return event.text.encode() if isinstance(event, TextDelta) else b""

    def finish(self) -> bytes:
        return b" stop"

    def fail(self, error: GatewayError) -> bytes:
        return error.code.encode()


SAMPLES: dict[str, tuple[bytes, bytes | None]] = {
    "openai_chat": tuple(  # type: ignore[dict-item]
        json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).encode()
        for stream in (False, True)
    ),
    "openai_embeddings": (b'{"model": "m", "input": "hi"}', None),
    "openai_models": (b"", None),
    "telegraph": (b"once", b"stream"),
}
"""For each dialect a request, and the same request streamed where the dialect has streams."""

WITHOUT_PROVIDER = {"openai_models"}
"""Dialects whose answers come from the routers' catalogues."""


class Case(NamedTuple):
    dialect: str
    method: str
    path: str
    stream: bool
    place: str

    @property
    def expected(self) -> set[str]:
        """The hooks that this request must meet."""
        source = {"models"} if self.dialect in WITHOUT_PROVIDER else {"route", "stream"}
        return ALWAYS | source | (set() if self.stream else {"on_reply"})


def standalone(gateway: Gateway) -> Any:
    return gateway


def in_front(gateway: Gateway) -> Any:
    return GatewayMiddleware(Starlette(), gateway, prefix="/llm")


def mounted(gateway: Gateway) -> Any:
    return Starlette(routes=[Mount("/llm", gateway)])


PLACES: dict[str, tuple[Callable[[Gateway], Any], str]] = {
    "standalone": (standalone, ""),
    "middleware": (in_front, "/llm"),
    "mount": (mounted, "/llm"),
}


def gateway_of(probe: Probe) -> Gateway:
    return make_gateway(probe.plugin, plugin_of(dialects=[Telegraph()]))


def cases() -> Iterator[Any]:
    for dialect in gateway_of(Probe()).dialects:
        for method, path in dialect.routes:
            for stream, body in enumerate(SAMPLES.get(dialect.name, (b"", b""))):
                if body is not None:
                    for place in PLACES:
                        case = Case(dialect.name, method, path.replace("*", "m"), bool(stream), place)
                        yield pytest.param(case, id=f"{method} {case.path} {'stream' if stream else 'reply'} {place}")


every_case = pytest.mark.parametrize("case", list(cases()))


async def ask(case: Case, probe: Probe) -> httpx.Response:
    """Send the sample for this case; when the answer is there the gateway is stopped, so that all has been observed."""
    assert case.dialect in SAMPLES, f"the dialect {case.dialect} needs a sample request in SAMPLES"
    place, prefix = PLACES[case.place]
    gateway = gateway_of(probe)
    async with gateway:
        transport = httpx.ASGITransport(place(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(case.method, prefix + case.path, content=SAMPLES[case.dialect][case.stream])


@every_case
async def test_the_request_meets_every_hook(case: Case) -> None:
    """An answered request has met every hook that there is for its kind, each exactly once but for events."""
    probe = Probe()
    answer = await ask(case, probe)
    assert answer.status_code == 200
    assert ("text/event-stream" in answer.headers["content-type"]) is case.stream
    assert answer.headers["x-probe-limit"] == "here"
    assert set(probe.called) == case.expected
    once = [hook for hook in probe.called if hook != "on_event"]
    assert len(once) == len(set(once))
    (record,) = probe.records
    assert (record.dialect, record.stream, record.outcome, record.status) == (case.dialect, case.stream, "done", 200)


@every_case
@pytest.mark.parametrize(("refusing", "status"), [("authenticate", 401), ("acquire", 429)])
async def test_the_request_can_be_refused(case: Case, refusing: str, status: int) -> None:
    """Whoever refuses does so on every route: nothing behind it is called, and the refusal is on record."""
    probe = Probe(refusing)
    answer = await ask(case, probe)
    assert answer.status_code == status
    guards = [hook for hook in probe.called if hook != "route"]
    assert guards == [*["authenticate", "acquire"][: 1 + (refusing == "acquire")], "record"]
    (record,) = probe.records
    assert (record.outcome, record.status) == ("refused", status)


def test_every_dialect_route_is_among_the_cases() -> None:
    """The list is the gateway's own, so that no route can be forgotten here."""
    known = {(param.values[0].method, param.values[0].path) for param in cases()}
    gateway = gateway_of(Probe())
    assert {
        (method, path.replace("*", "m")) for dialect in gateway.dialects for method, path in dialect.routes
    } == known
    assert ("POST", "/v1/chat/completions") in known
    assert ("PUT", "/telegraph/m") in known
