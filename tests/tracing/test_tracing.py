"""Traces by the standard variables: one span for the request, one for each attempt; nothing at all without them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import httpx
import pytest

from gatewaykit import ConfigError, Finished, Gateway, ProviderUnavailable, TextDelta, Usage
from gatewaykit.testing import KEY, FakeProvider, Upstream, gateway_client, make_gateway, plugin_of

from ..e2e import openai_upstream
from .conftest import Collector

SERVER, CLIENT = 2, 3
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INCOMING = f"00-{TRACE}-{PARENT}-01"


def traced(collector: Collector, *plugins: object, environ: dict[str, str] | None = None, **config: Any) -> Gateway:
    """A gateway that was told of the collector by the variable that every OpenTelemetry SDK reads."""
    blocked = [entry.name for entry in entry_points(group="gatewaykit") if entry.name not in config]
    given = {
        "static_keys": {"keys": {"test": KEY}},
        "log": {"access": False},
        "plugins": {"blocked": blocked},
        "router": {"aliases": {"m": ["fake/m"], "either": ["broken/a", "fake/m"]}},
        **config,
    }
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **(environ or {})}
    return Gateway(given, plugins=plugins, environ=variables)


def providers(*script: Any) -> object:
    return plugin_of(
        providers=[
            FakeProvider(*script, models=["m"]),
            FakeProvider(ProviderUnavailable(), name="broken", models=["a"]),
        ]
    )


async def ask(client: httpx.AsyncClient, model: str = "m", *, stream: bool = False, **headers: str) -> httpx.Response:
    body = {
        "model": model,
        "stream": stream,
        "temperature": 0.5,
        "messages": [{"role": "user", "content": "canary-prompt"}],
    }
    return await client.post("/v1/chat/completions", json=body, headers=headers)


async def test_one_server_span_and_one_client_span_for_each_attempt(collector: Collector) -> None:
    """The server's span is the caller's child, the attempts' are its own, with what the conventions call them."""
    script = (TextDelta("Hello"), Finished("stop"), Usage(7, 5, cached_tokens=2))
    async with gateway_client(traced(collector, providers(*script))) as client:
        answer = await ask(client, "either", stream=True, traceparent=INCOMING)
    server = collector.only(SERVER)
    first, second = [span for span in collector.spans if span.kind == CLIENT]
    assert (server.trace_id, server.parent_id) == (TRACE, PARENT)
    assert server.name == "POST /v1/chat/completions"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["gatewaykit.request_id"] == answer.headers["x-request-id"]
    assert {first.parent_id, second.parent_id} == {server.span_id}
    assert (first.name, first.failed, first.attributes["error.type"]) == ("chat a", True, "provider_unavailable")
    assert (second.name, second.failed) == ("chat m", False)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "fake",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 2,
    }
    assert expected.items() <= second.attributes.items()
    assert second.began <= second.events["gatewaykit.first_token"] <= second.ended
    assert server.began <= server.events["gatewaykit.first_token"] <= server.ended


async def test_provider_is_told_its_place_in_the_trace(collector: Collector) -> None:
    """The upstream gets `traceparent` with the id of the attempt's own span, and the caller's `tracestate`."""
    async with Upstream(openai_upstream.serve) as upstream:
        section = {"upstreams": {"openai": {"base_url": f"{upstream.url}/v1", "api_key": openai_upstream.CREDENTIAL}}}
        async with gateway_client(traced(collector, openai=section, router={})) as client:
            assert (await ask(client, "openai/gpt-sandbox", traceparent=INCOMING, tracestate="a=b")).status_code == 200
        told = [request.headers for request in upstream.requests if request.path.endswith("/chat/completions")]
    (headers,) = told
    assert headers["traceparent"] == f"00-{TRACE}-{collector.only(CLIENT).span_id}-01"
    assert headers["tracestate"] == "a=b"
    secrets = (openai_upstream.CREDENTIAL, section["upstreams"]["openai"]["base_url"].removeprefix("http://"))
    assert not [body for body in collector.bodies for secret in secrets if secret.encode() in body]


async def test_a_request_without_a_trace_begins_one_by_its_id(collector: Collector) -> None:
    """The trace's id is the request's: whoever has the log line finds the trace."""
    async with gateway_client(traced(collector, providers())) as client:
        answer = await ask(client)
        await ask(client, **{"x-request-id": "the-client-s-own"})
    ids = [span.trace_id for span in collector.spans if span.kind == SERVER]
    assert ids[0] == answer.headers["x-request-id"]
    assert len(set(ids)) == 2
    assert all(span.parent_id == "" for span in collector.spans if span.kind == SERVER)


@pytest.mark.parametrize("header", ["", "00-1-2-3", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", "é" * 9])
async def test_a_trace_that_cannot_be_is_not_followed(collector: Collector, header: str) -> None:
    """A header that is not what the standard demands counts as none."""
    async with gateway_client(traced(collector, providers())) as client:
        response = await client.get("/v1/models", headers={"traceparent": header.encode()})
        assert response.status_code == 200
    assert collector.only(SERVER).trace_id == response.headers["x-request-id"]


async def test_the_caller_s_decision_not_to_sample_holds(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that is not sampled leaves no spans, nor does a sampler that is off; others do."""
    async with gateway_client(traced(collector, providers())) as client:
        await ask(client, traceparent=f"00-{TRACE}-{PARENT}-00")
    assert not collector.spans
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with gateway_client(traced(collector, providers())) as client:
        await ask(client)
    assert not collector.spans


async def test_refusals_have_a_span_and_no_attempt(collector: Collector) -> None:
    """A key that is not valid, a model that is not there: one span, and what the client did wrong is no failure."""
    async with gateway_client(traced(collector, providers())) as client:
        assert (
            await ask(client, authorization="Bearer canary-key-0123456789", traceparent=INCOMING)
        ).status_code == 401
    server = collector.only(SERVER)
    assert (server.trace_id, server.attributes["http.response.status_code"], server.failed) == (TRACE, 401, False)
    assert not [span for span in collector.spans if span.kind == CLIENT]


async def test_what_is_said_stays_out_of_traces(collector: Collector) -> None:
    """Neither prompts, nor answers, nor keys are in anything that was sent."""
    async with gateway_client(traced(collector, providers(TextDelta("canary-answer"), Finished("stop")))) as client:
        await ask(client)
        await ask(client, stream=True)
        await ask(client, authorization="Bearer canary-key-0123456789")
    assert len(collector.spans) == 5
    assert not [body for body in collector.bodies if b"canary" in body or KEY.encode() in body]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_said_is_in_traces_where_that_is_asked_for(collector: Collector, stream: bool) -> None:
    """With the switch, prompt, answer and the reason of its end are attributes of the attempt; keys never are."""
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
    script = (TextDelta("canary-"), TextDelta("answer"), Finished("stop"))
    async with gateway_client(traced(collector, providers(*script), environ=environ)) as client:
        await ask(client, stream=stream)
    attributes = collector.only(CLIENT).attributes
    assert "canary-prompt" in attributes["gen_ai.input.messages"]
    assert "canary-answer" in attributes["gen_ai.output.messages"]
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert not [body for body in collector.bodies if KEY.encode() in body]


async def test_a_collector_that_is_away_harms_nobody(collector: Collector) -> None:
    """Calls are answered, and the gateway stops, while spans cannot be sent."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with gateway_client(traced(collector, providers(), environ=environ)) as client:
        assert (await ask(client)).status_code == 200


_STOPPED_BEFORE_ITS_SPANS = """
import asyncio, os, socket, threading
from gatewaykit import Gateway
from gatewaykit.testing import gateway_client

async def main():
    async with gateway_client(Gateway({"log": {"access": False}})) as client:
        await client.post("/v1/chat/completions", json={})

with socket.create_server(("127.0.0.1", 0)) as stuck:
    os.environ |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stuck.getsockname()[1]}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
    }
    asyncio.run(main())
    assert "gatewaykit-spans" in [thread.name for thread in threading.enumerate()]
    os._exit(0)
"""


def test_a_stop_does_not_wait_for_a_collector_that_is_stuck() -> None:
    """Where one takes connections and never answers, the gateway has stopped while the SDK still tries."""
    done = subprocess.run([sys.executable, "-c", _STOPPED_BEFORE_ITS_SPANS], check=False, timeout=120, cwd="/")
    assert done.returncode == 0


@pytest.mark.parametrize("environ", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
async def test_it_can_be_switched_off(collector: Collector, environ: dict[str, str]) -> None:
    """An endpoint alone switches it on, these variables off again."""
    async with gateway_client(traced(collector, providers(), environ=environ)) as client:
        await ask(client, traceparent=INCOMING)
    assert not collector.bodies


async def test_console_gets_a_line_for_each_span(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the log's lines on standard output, spans are lines of JSON as well."""
    environ = {"OTEL_TRACES_EXPORTER": "console"}
    async with gateway_client(traced(collector, providers(), environ=environ)) as client:
        await ask(client)
    spans = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {span["name"] for span in spans} == {"POST /v1/chat/completions", "chat m"}
    assert not collector.bodies


def test_a_protocol_that_is_not_spoken_is_refused(collector: Collector) -> None:
    """gRPC is a fault of the configuration, not a silence."""
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        traced(collector, providers(), environ={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_nothing_is_imported_without_it() -> None:
    """A gateway without tracing that has served a call and was not scraped has no OpenTelemetry in its memory."""
    code = """
import asyncio, sys
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of

async def main():
    async with gateway_client(make_gateway(plugin_of(providers=[FakeProvider()]))) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        assert (await client.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200

asyncio.run(main())
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "prometheus_client"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


async def test_provider_is_told_nothing_without_it() -> None:
    """Without tracing a caller's trace ends here."""
    async with Upstream(openai_upstream.serve) as upstream:
        section = {"upstreams": {"openai": {"base_url": f"{upstream.url}/v1", "api_key": openai_upstream.CREDENTIAL}}}
        async with gateway_client(make_gateway(openai=section)) as client:
            assert (await ask(client, "openai/gpt-sandbox", traceparent=INCOMING)).status_code == 200
        assert not [request for request in upstream.requests if "traceparent" in request.headers]
