"""A call leaves nothing for the garbage collector to find: all of it is freed at once when it is over."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gatewaykit import Gateway
from gatewaykit.errors import ProviderUnavailable
from gatewaykit.protocols import Transform
from gatewaykit.testing import FakeProvider, make_gateway, plugin_of
from gatewaykit.testing.gateways import KEY
from gatewaykit.types import Call, Event

CALLS = 20


class Passing(Transform):
    """Changes nothing, and wants to see everything."""

    name = "passing"

    def on_event(self, call: Call, event: Event) -> Event:
        """The event."""
        return event


@pytest.fixture
def _no_collections() -> Iterator[None]:
    """Nothing is collected but by the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def asked(gateway: Gateway, body: dict[str, Any], key: str) -> int:
    """The status of one call, made without any client's help."""
    given, sent = json.dumps(body).encode(), list[Any]()
    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {key}".encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": given, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "client": None}
    await gateway(scope, receive, send)
    return int(sent[0]["status"])


async def circles(gateway: Gateway, body: dict[str, Any], key: str) -> float:
    """How many objects a call leaves in circles."""
    for _ in range(CALLS):
        await asked(gateway, body, key)
    gc.collect()
    for _ in range(CALLS):
        await asked(gateway, body, key)
    return gc.collect() / CALLS


@pytest.mark.usefixtures("_no_collections")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("transforms", [(), (Passing(),)], ids=["direct", "transformed"])
async def test_a_call_leaves_no_circles(stream: bool, transforms: tuple[Transform, ...]) -> None:
    """Answered in one piece or as a stream, with a transform on the way or without: the collector finds nothing."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()], transforms=transforms))
    body = {"model": "fake/m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    async with gateway:
        assert await asked(gateway, body, KEY) == 200
        assert await circles(gateway, body, KEY) < 1


@pytest.mark.usefixtures("_no_collections")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("key", "status"), [("wrong", 401), (KEY, 503)], ids=["not-let-in", "not-answered"])
async def test_a_refused_call_leaves_no_circles(key: str, status: int, stream: bool) -> None:
    """Nor does a call that is not let in, or whose provider fails."""
    provider = FakeProvider(ProviderUnavailable())
    gateway = make_gateway(plugin_of(providers=[provider]), auth_throttle={"failures": 1000})
    body = {"model": "fake/m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    async with gateway:
        assert await asked(gateway, body, key) == status
        assert await circles(gateway, body, key) < 1
