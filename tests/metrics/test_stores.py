"""What the gateway's stores tell of themselves: the ledger and its outbox, the database, Redis, the limiter."""

from __future__ import annotations

from pathlib import Path

from gatewaykit import Call, Reply, Target, Usage
from gatewaykit.metrics import names
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of
from gatewaykit.testing.servers import redis_program, redis_server

from .test_scrape import ask, scrape, until_seen


async def test_stores_are_measured(tmp_path: Path) -> None:
    """With a database and Redis, their state, the limiter's and the ledger's are in the scrape; records are written."""
    with redis_server(redis_program()) as server:
        gateway = make_gateway(
            plugin_of(providers=[FakeProvider(models=["m"])]),
            database={"url": f"sqlite:///{tmp_path}/books.db"},
            redis={"url": server.url, "timeout": 1.0},
            limits={"store": "redis", "each_key": {"rpm": 100}},
        )
        async with gateway_client(gateway) as client:
            assert await ask(client) == 200
            await until_seen(client, names.LEDGER_WRITTEN, 1)
            seen = await scrape(client)
    assert seen.total(names.OUTBOX_DEPTH) == seen.total(names.LEDGER_FAILURES) == 0
    assert seen.total(names.REDIS_OPEN) == seen.total(names.LIMITER_DEGRADED) == 0
    there = (names.DATABASE_BUSY, names.DATABASE_WAITING, names.DATABASE_REFUSED, names.REDIS_BUSY, names.REDIS_EVENTS)
    for metric in (*there, names.OUTBOX_SIZE, names.OUTBOX_AGE, names.LIMITER_ALONE, names.LIMITER_LOST):
        assert metric.prometheus in seen


async def test_an_outage_shows() -> None:
    """While Redis is away its breaker is open, the limiter decides alone, and calls that failed are counted."""
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider(models=["m"])]),
        redis={"url": "unix:///nowhere/to/be/found", "failures": 1},
        limits={"store": "redis", "each_key": {"rpm": 100}},
    )
    async with gateway_client(gateway) as client:
        assert await ask(client) == 200
        assert await ask(client) == 200
        seen = await scrape(client)
    assert seen.total(names.REDIS_OPEN) == seen.total(names.LIMITER_DEGRADED) == 1
    assert seen.total(names.LIMITER_ALONE) == 2
    assert seen.total(names.REDIS_EVENTS) >= 1


async def test_targets_are_measured() -> None:
    """A target that the configuration names has a breaker and attempts in progress, before it is ever asked."""
    gateway = make_gateway(plugin_of(providers=[FakeProvider(models=["m"])]), router={"aliases": {"alias": ["fake/m"]}})
    async with gateway_client(gateway) as client:
        seen = await scrape(client)
        assert await ask(client, model="fake/invented") == 200
        later = await scrape(client)
    target = Target("fake", "m")
    labels = {"gen_ai_provider_name": target.provider, "gen_ai_response_model": target.model}
    for metric in (names.BREAKER, names.BREAKER_OPENED, names.BREAKER_COOLDOWN, names.ATTEMPTS_ACTIVE):
        assert seen[metric.prometheus] == {frozenset(labels.items()): 0.0} == later[metric.prometheus]


async def test_answers_from_the_cache_are_counted() -> None:
    """A second call of the same is a hit, and an answer by the provider `cache`, which is attempted nowhere else."""
    gateway = make_gateway(
        plugin_of(providers=[FakeProvider(models=["m"])]),
        router={"aliases": {"m": ["fake/m"]}},
        cache={"enabled": True},
    )
    async with gateway_client(gateway) as client:
        assert [await ask(client), await ask(client)] == [200, 200]
        seen = await scrape(client)
    assert seen.total(names.CACHE_REQUESTS, gatewaykit_cache="answers", gatewaykit_result="hit") == 1
    assert seen.total(names.CACHE_REQUESTS, gatewaykit_cache="answers", gatewaykit_result="miss") == 1
    assert seen.total(names.CALLS) == 2


async def test_embeddings_keep_the_names_that_are_not_for_inference() -> None:
    """The new names are those of inference: embeddings are measured under the old ones in both generations."""

    class Vectors(FakeProvider):
        async def embed(self, call: Call, target: Target) -> Reply:
            return Reply(vectors=((0.5,),), usage=Usage(3, 0))

    gateway = make_gateway(
        plugin_of(providers=[Vectors(models=["m"])]), router={"aliases": {"m": ["fake/m"]}}, metrics={"genai": "main"}
    )
    async with gateway_client(gateway) as client:
        answer = await client.post("/v1/embeddings", json={"model": "m", "input": "hi"})
        assert answer.status_code == 200, answer.text
        seen = await scrape(client)
    assert seen.total(names.CLIENT_DURATION, gen_ai_operation_name="embeddings") == 1
    assert seen.total(names.SERVER_DURATION, gen_ai_operation_name="embeddings") == 1
    assert seen.total(names.NEW_DURATION) == 0
