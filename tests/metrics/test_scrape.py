"""What `/metrics` says, and what it never says."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gatewaykit import (
    Finished,
    Metric,
    ProviderUnavailable,
    Readable,
    Reading,
    TextDelta,
    Usage,
)
from gatewaykit.metrics import Distribution, names
from gatewaykit.testing import KEY, FakeProvider, gateway_client, make_gateway, plugin_of, serve, until

from .conftest import Scrape

CONTEXT = "application/openmetrics-text; version=1.0.0; charset=utf-8"


async def ask(client: httpx.AsyncClient, model: str = "m", *, stream: bool = False, text: str = "hi") -> int:
    """One call; its status."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    return (await client.post("/v1/chat/completions", json=body)).status_code


async def scrape(client: httpx.AsyncClient) -> Scrape:
    """What this machine sees."""
    answer = await client.get("/metrics", headers={"authorization": ""})
    assert answer.status_code == 200
    return Scrape(answer.text)


def gateway_of(*script: Any, **config: Any) -> Any:
    """A gateway with the model ``m`` of a provider that follows ``script``."""
    config = {"router": {"aliases": {"m": ["fake/m"]}}, **config}
    return make_gateway(plugin_of(providers=[FakeProvider(*script, models=["m"])]), **config)


async def test_promtool_finds_no_fault(promtool: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """`promtool check metrics` accepts a scrape with every kind of metric in it, old names and new ones."""
    async with gateway_client(gateway_of(metrics={"genai": "both", "keys": True})) as client:
        assert await ask(client) == 200
        assert await ask(client, stream=True) == 200
        checked = promtool((await scrape(client)).text)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_what_is_scraped_is_what_the_list_of_names_says() -> None:
    """Every family has an entry in the list, with its kind, its name and no label beyond those that are listed."""
    listed = {metric.prometheus: metric for metric in names.all_metrics()}
    kinds = {"counter": "counter", "updown": "gauge", "gauge": "gauge", "histogram": "histogram"}
    async with gateway_client(gateway_of(metrics={"genai": "both", "keys": True})) as client:
        await ask(client)
        await ask(client, stream=True)
        await ask(client, model="unknown")
        seen = await scrape(client)
    assert len(seen.families) > 30
    for family, kind in seen.families.items():
        if family.startswith("target"):
            continue
        metric = listed[f"{family}_total" if kind == "counter" else family]
        assert kinds[metric.kind] == kind
        samples = [name for name in seen if name.startswith(family) and name.removeprefix(family) in _SUFFIXES[kind]]
        for sample in samples:
            for labels in seen[sample]:
                assert {label for label, _ in labels} - {"le"} <= set(metric.prometheus_labels)


_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


async def test_answers_are_counted_when_the_client_has_them() -> None:
    """A client that has its last byte finds its call in the next scrape, in every family that is about it."""
    async with gateway_client(gateway_of(TextDelta("a"), Finished("stop"), Usage(7, 5, cached_tokens=2))) as client:
        for number in range(1, 6):
            await ask(client, stream=number % 2 == 0)
            seen = await scrape(client)
            for metric in (names.CALLS, names.HTTP_DURATION, names.SERVER_DURATION, names.CLIENT_DURATION):
                assert seen.total(metric) == number
    assert seen.total(names.SERVER_FIRST_TOKEN) == seen.total(names.CLIENT_FIRST_CHUNK) == 2
    assert seen.total(names.TOKENS_USED, gen_ai_token_type="input") == 35
    assert seen.total(names.TOKENS_USED, gen_ai_token_type="cached") == 10
    assert seen.total(names.CLIENT_TOKENS, sample="_sum", gen_ai_token_type="output") == 25
    assert seen.total(names.OVERHEAD) == 5


async def test_buckets_reach_five_minutes() -> None:
    """No histogram of seconds ends below 300 s."""
    async with gateway_client(gateway_of()) as client:
        await ask(client, stream=True)
        seen = await scrape(client)
    histograms = [family for family, kind in seen.families.items() if kind == "histogram" and "seconds" in family]
    assert len(histograms) >= 7
    for family in histograms:
        bounds = {float(dict(labels)["le"]) for labels in seen[f"{family}_bucket"]}
        assert max(bounds - {float("inf")}) >= 300


@pytest.mark.parametrize(
    ("genai", "there", "missing"),
    [
        ("1.41", [names.CLIENT_DURATION, names.CLIENT_TOKENS, names.SERVER_DURATION], [names.NEW_DURATION]),
        ("main", [names.NEW_DURATION, names.NEW_INPUT, names.NEW_OUTPUT_EACH], [names.CLIENT_DURATION]),
        ("both", [names.NEW_DURATION, names.CLIENT_DURATION, names.CLIENT_TOKENS, names.NEW_INPUT], []),
    ],
)
async def test_generation_of_names_can_be_chosen(genai: str, there: list[Metric], missing: list[Metric]) -> None:
    """The old names, the new ones, or both."""
    async with gateway_client(gateway_of(metrics={"genai": genai})) as client:
        await ask(client)
        seen = await scrape(client)
    assert all(seen.total(metric) for metric in there)
    assert not any(seen.total(metric) for metric in missing)


async def test_invented_models_add_no_series() -> None:
    """A thousand names that clients made up are one: `other`, whether the provider answers for them or not."""
    async with gateway_client(gateway_of()) as client:
        for model in ("m", "invented", "fake/invented"):
            await ask(client, model=model)
        before = await scrape(client)
        for start in range(0, 1000, 50):
            await asyncio.gather(*(ask(client, model=f"invented-{number}") for number in range(start, start + 50)))
        after = await scrape(client)
    assert after.total(names.CALLS, gen_ai_request_model="other") == 1002
    assert len(after) - len(before) <= 1
    assert "invented" not in after.text


async def test_nothing_of_a_request_becomes_a_label() -> None:
    """Neither keys nor prompts, nor raw paths, nor a Host, nor a method that nobody knows."""
    gateway = gateway_of(ProviderUnavailable(detail="http://10.11.12.13/secret-upstream"))
    async with gateway_client(gateway) as client:
        await ask(client, text="canary-prompt")
        await ask(client, text="canary-prompt", stream=True)
        client.headers["host"] = "canary-host.example"
        await client.get("/canary-path/of/nothing")
        await client.get("/v1/models/canary-model")
        await client.request("PROPFIND", "/v1/models")
        await client.request("PROPFIND", "/livez")
        await client.get("/v1/models?canary-query=1", headers={"authorization": "Bearer canary-key"})
        del client.headers["host"]
        seen = await scrape(client)
    assert "canary" not in seen.text.lower()
    assert KEY not in seen.text
    assert "10.11.12.13" not in seen.text
    assert seen.total(names.HTTP_DURATION, http_route="", http_response_status_code="404") == 1
    assert seen.total(names.HTTP_DURATION, http_route="/v1/models/*") == 1
    assert seen.total(names.HTTP_DURATION, http_request_method="_OTHER") == 2


async def test_failures_are_told_apart() -> None:
    """What a provider did wrong, what a client did wrong, and what the gateway did wrong have outcomes of their own."""
    script = gateway_of(ProviderUnavailable())
    async with gateway_client(script) as client:
        assert await ask(client) == 503
        client.headers["authorization"] = "Bearer wrong-key-0123456789"
        assert await ask(client) == 401
        seen = await scrape(client)
    assert seen.total(names.CALLS, gatewaykit_outcome="provider_error", error_type="provider_unavailable") == 1
    assert seen.total(names.CALLS, gatewaykit_outcome="refused", error_type="invalid_api_key") == 1
    assert seen.total(names.ATTEMPTS, error_type="provider_unavailable") == 1


async def test_fallback_is_counted() -> None:
    """A call that the second target answers is an attempt at each, and one fallback from the first to the second."""
    failing = FakeProvider(ProviderUnavailable(), name="first", models=["a"])
    gateway = make_gateway(
        plugin_of(providers=[failing, FakeProvider(name="second", models=["b"])]),
        router={"aliases": {"either": ["first/a", "second/b"]}},
    )
    async with gateway_client(gateway) as client:
        assert await ask(client, model="either") == 200
        seen = await scrape(client)
    assert seen.total(names.FALLBACKS, gatewaykit_fallback_from="first", gen_ai_provider_name="second") == 1
    assert seen.total(names.ATTEMPTS, gen_ai_response_model="a", error_type="provider_unavailable") == 1
    assert seen.total(names.ATTEMPTS, gen_ai_response_model="b") == 1


async def test_gauges_return_to_nothing_when_clients_leave() -> None:
    """Requests and streams in progress are counted while they last, and no longer, before and after a first byte."""
    gate, late = asyncio.Event(), asyncio.Event()
    provider = FakeProvider(TextDelta("a"), gate, Finished("stop"), models=["m"])
    silent = FakeProvider(late, TextDelta("a"), Finished("stop"), name="silent", models=["s"])
    aliases = {"m": ["fake/m"], "s": ["silent/s"]}
    gateway = make_gateway(plugin_of(providers=[provider, silent]), router={"aliases": aliases})

    async def begun(client: httpx.AsyncClient, model: str) -> None:
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                pass

    async with gateway_client(gateway) as client:
        calls = [asyncio.create_task(begun(client, model)) for model in ("m", "m", "s")]
        await until(lambda: provider.opened == 2 and silent.opened == 1)
        await until_seen(client, names.STREAMS, 2)
        seen = await scrape(client)
        assert seen.total(names.HTTP_ACTIVE, http_request_method="POST") == 3
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: provider.closed == 2 and silent.closed == 1)
        await until_seen(client, names.HTTP_ACTIVE, 0)
        seen = await scrape(client)
    assert seen.total(names.STREAMS) == 0
    assert seen.total(names.CALLS, gatewaykit_outcome="client_gone") == 3


async def until_seen(client: httpx.AsyncClient, metric: Metric, value: float) -> None:
    """Scrape until the metric has this value."""
    async with asyncio.timeout(10):
        while (await scrape(client)).total(metric) != value:
            pass


FILL = Metric("acme.fill", "gauge", "1", "How full the tank is.", ("acme.tank",), merge="max")
WAITS = Metric("acme.wait", "histogram", "s", "How long the tank takes.", bounds=(0.1, 1.0))
DRAWN = Metric("acme.drawn", "counter", "{litre}", "What was taken.")


class Tank(Readable):
    """What a plugin may measure by itself."""

    name = "tank"

    def __init__(self) -> None:
        self.drawn = 3.0
        self.waits = Distribution(WAITS.bounds)
        self.waits.record(0.05)
        self.waits.record(5)

    def readings(self) -> list[Reading]:
        return [
            Reading(FILL, 0.5, {"acme.tank": "left", "not.listed": "canary"}),
            Reading(DRAWN, self.drawn),
            Reading(WAITS, self.waits),
        ]


class Broken(Readable):
    """A plugin that cannot say how it is."""

    name = "broken"

    def readings(self) -> list[Reading]:
        raise RuntimeError("no idea")


async def test_a_plugin_s_own_readings_are_scraped() -> None:
    """Gauge, counter and histogram of a third party stand beside the gateway's; one that fails harms nobody."""
    tank = Tank()
    async with gateway_client(make_gateway(plugin_of(readings=[tank, Broken()]))) as client:
        first = await scrape(client)
        tank.drawn = 5.0
        second = await scrape(client)
        tank.drawn = 1.0
        third = await scrape(client)
    assert first["acme_fill"] == {frozenset({("acme_tank", "left")}): 0.5}
    assert [seen.total(DRAWN) for seen in (first, second, third)] == [3, 5, 6]
    assert third.total(WAITS) == 2
    assert third.total(WAITS, sample="_bucket", le="0.1") == 1
    assert "HELP acme_drawn_total What was taken." in third.text


async def test_hooks_are_accounted_for() -> None:
    """Each hook of each object has calls and seconds, and its failures are counted."""
    async with gateway_client(gateway_of()) as client:
        await ask(client)
        seen = await scrape(client)
    labels = {"gatewaykit_object": "static-keys", "gatewaykit_hook": "authenticate"}
    assert seen.total(names.HOOK_CALLS, **labels) == 1
    assert seen.total(names.HOOK_TIME, **labels) > 0
    assert seen.total(names.HOOK_FAILURES) == 0


async def test_refusals_and_budgets_of_limits_are_counted() -> None:
    """A refused call is counted by whose limit it was and of what; a budget shows how full it is."""
    limits = {"each_key": {"rpm": 1}, "all": {"budget": 10, "budget_period": "day"}}
    prices = {"models": [{"model": "*", "input": 0, "output": 0, "request": 4}]}
    async with gateway_client(gateway_of(limits=limits, prices=prices)) as client:
        assert [await ask(client), await ask(client)] == [200, 429]
        seen = await scrape(client)
    assert seen.total(names.REFUSALS, gatewaykit_limit_whose="key", gatewaykit_limit_unit="requests") == 1
    assert seen.total(names.BUDGET_USED, gatewaykit_limit_whose="all") == pytest.approx(0.4)
    assert seen.total(names.SPEND) == 4


async def test_openmetrics_is_told_to_those_who_want_it() -> None:
    """A scraper that asks for OpenMetrics gets it, with its end mark."""
    async with gateway_client(gateway_of()) as client:
        answer = await client.get("/metrics", headers={"authorization": "", "accept": CONTEXT})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_switched_off_there_is_nothing() -> None:
    """Without metrics there is no such path, and no thread that counts."""
    async with serve(gateway_of(metrics={"enabled": False})) as url, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/metrics")).status_code == 404
