"""Gateways for tests are alike on every machine, and are reached over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gatewaykit.errors import ConfigError, ProviderUnavailable
from gatewaykit.protocols import Transform
from gatewaykit.testing import KEY, FakeProvider, gateway_client, make_gateway, plugin_of, running, serve, until
from gatewaykit.types import Call, Event, Finished, TextDelta

QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def hello() -> Starlette:
    """An application of another framework."""

    async def answer(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", answer)])


async def first_lines(answer: httpx.Response, word: str) -> AsyncIterator[str]:
    """The lines of a stream up to the first that has ``word``, which must come."""
    async for line in answer.aiter_lines():
        yield line
        if word in line:
            return
    pytest.fail(f"no {word!r} in the stream")


class Shout(Transform):
    name = "shout"

    def on_event(self, call: Call, event: Event) -> Event:
        return TextDelta(event.text.upper()) if isinstance(event, TextDelta) else event


async def test_client_talks_to_a_served_gateway() -> None:
    """The client has the gateway's address and key, and the fake provider's words come back."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]))
    async with gateway_client(gateway) as client:
        answer = await client.post("/v1/chat/completions", json=QUESTION)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello!"


async def test_another_key_is_refused() -> None:
    """The gateway knows one key and no other."""
    async with gateway_client(make_gateway(), key="gk_another_0123456789abcd") as client:
        assert (await client.get("/v1/models")).status_code == 401


async def test_objects_of_every_kind_make_a_plugin() -> None:
    """What plugin_of is given takes part under its hook."""
    plugin = plugin_of(name="both", providers=[FakeProvider()], transforms=[Shout()])
    gateway = make_gateway(plugin)
    assert next(info.hooks for info in gateway.plugins if info.name == "both") == (
        "gateway_providers",
        "gateway_transforms",
    )
    async with gateway_client(gateway) as client:
        answer = await client.post("/v1/chat/completions", json=QUESTION)
    assert answer.json()["choices"][0]["message"]["content"] == "HELLO!"


def test_misspelt_kind_is_refused() -> None:
    """A kind of object that no hook returns is an error."""
    with pytest.raises(Exception, match="gateway_provider"):
        make_gateway(plugin_of(provider=[FakeProvider()]))


def test_installed_plugins_stay_out_unless_configured() -> None:
    """Only what the test configures takes part, whatever is installed on this machine."""
    gateway = make_gateway()
    assert {info.status for info in gateway.plugins if info.distribution != "gatewaykit"} <= {"blocked"}
    configured = make_gateway(openai={"upstreams": {"acme": {"base_url": "http://127.0.0.1:9/v1"}}})
    assert list(configured.providers) == ["acme"]


def test_installed_plugin_may_be_handed_in() -> None:
    """A module that is installed as a plugin is not there twice when the test hands it in too."""
    from gatewaykit_openai import plugin

    gateway = make_gateway(plugin, openai={"upstreams": {"acme": {"base_url": "http://127.0.0.1:9/v1"}}})
    assert list(gateway.providers) == ["acme"]


def test_environment_of_the_machine_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that configure a gateway do not reach one that a test makes."""
    monkeypatch.setenv("GATEWAYKIT_SERVER__PORT", "no number")
    monkeypatch.setenv("GIGACHAT_CREDENTIALS", "c2VjcmV0")
    assert not make_gateway().providers


def test_faults_of_the_configuration_are_told() -> None:
    """A section that nobody declares is an error, as in the gateway itself."""
    with pytest.raises(ConfigError, match="no_such_section"):
        make_gateway(no_such_section={})


async def test_any_application_is_served() -> None:
    """serve takes every ASGI application and gives its port back."""
    async with serve(hello()) as url, httpx.AsyncClient() as client:
        assert (await client.get(url)).text == "hello"
    with socket.socket() as probe:
        assert probe.connect_ex((str(urlsplit(url).hostname), int(urlsplit(url).port or 0))) != 0


async def test_gateway_that_does_not_start_is_told() -> None:
    """A gateway whose lifespan fails raises instead of leaving the test to wait."""

    class Lifespan:
        async def __aenter__(self) -> None:
            raise ProviderUnavailable

        async def __aexit__(self, *_: object) -> None:
            return None

    gateway = make_gateway(plugin_of(lifespan=[Lifespan()]))
    with pytest.raises(RuntimeError, match="did not start"):
        async with serve(gateway):
            pytest.fail("it started")
    with pytest.raises(RuntimeError, match="did not start"), running(gateway):
        pytest.fail("it started")


def test_running_serves_in_a_thread() -> None:
    """A test that blocks can talk to a gateway."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider(models=["one"])]))
    with running(gateway) as url:
        answer = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    assert [model["id"] for model in answer.json()["data"]] == ["one"]


def test_exception_of_the_test_passes_running_unchanged() -> None:
    """What goes wrong in the block is what the test sees, and the server stops."""
    with pytest.raises(ZeroDivisionError), running(hello()):
        raise ZeroDivisionError


async def test_fake_provider_counts() -> None:
    """Streams that begin, end, and are left are counted; it waits where an event stands."""
    gate = asyncio.Event()
    fake = FakeProvider(TextDelta("one"), gate, TextDelta("two"), Finished())
    gateway = make_gateway(plugin_of(providers=[fake]))
    async with gateway_client(gateway) as client:
        async with client.stream("POST", "/v1/chat/completions", json={**QUESTION, "stream": True}) as answer:
            assert [line async for line in first_lines(answer, "one")]
            assert (fake.opened, fake.closed) == (1, 0)
        await until(lambda: fake.closed == 1)
        assert fake.cancelled == 1
        gate.set()
        assert "two" in (await client.post("/v1/chat/completions", json=QUESTION)).text
    assert (fake.opened, fake.closed, fake.cancelled, fake.closings) == (2, 2, 1, 1)
    assert fake.calls[0].chat.messages[0].text == "Hello"


async def test_fake_provider_fails_as_told() -> None:
    """An error in the script is raised where it stands."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider(ProviderUnavailable())]))
    async with gateway_client(gateway) as client:
        answer = await client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 503


async def test_until_says_what_did_not_happen() -> None:
    """A condition that stays false ends the wait with its name."""
    with pytest.raises(TimeoutError, match="pigs fly"):
        await until(lambda: False, 0.01, "pigs fly")


def test_fixture_makes_gateways(gateway_factory: Callable[..., Any]) -> None:
    """The pytest plugin brings the factory to every test."""
    assert gateway_factory(plugin_of(providers=[FakeProvider()])).providers.keys() == {"fake"}


def test_fixture_serves_gateways(gateway_server: Callable[..., httpx.Client]) -> None:
    """The pytest plugin serves gateways for tests that block, several if need be."""
    first = gateway_server(plugin_of(providers=[FakeProvider(models=["one"])]))
    second = gateway_server(plugin_of(providers=[FakeProvider(models=["two"])]))
    assert first.get("/v1/models").json()["data"][0]["id"] == "one"
    assert second.get("/v1/models").json()["data"][0]["id"] == "two"
