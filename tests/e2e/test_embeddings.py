"""Embeddings from the official SDK to both kinds of provider: vectors, records, money and limits."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gatewaykit import Observer, Transform
from gatewaykit.testing import KEY, Upstream, UpstreamAnswer, make_gateway, plugin_of, serve, until
from gatewaykit_gigachat.sandbox import B2B, RunningSandbox, running_sandbox
from gatewaykit_gigachat.sandbox.embeddings import vector

from .talking import awaiting

GIGACHAT, OWN = "gigachat/Embeddings", "openai/text-embedding-3-small"


class Records(Observer):
    """Keeps what is left of each call."""

    name = "records"

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def record(self, record: Any) -> None:
        self.kept.append(record)


class Watcher(Transform):
    """Wants to see events, so that nothing passes unread."""

    name = "watcher"
    seen: list[str]

    def __init__(self) -> None:
        self.seen = []

    def on_event(self, call: Any, event: Any) -> Any:
        self.seen.append(type(event).__name__)
        return event


def answered(request: Any) -> Any:
    """An upstream's list of vectors, in its own order of keys; it lists no models."""
    if request.method == "GET":
        return UpstreamAnswer.of_json({"error": {"message": "nothing here"}}, 404).script()
    asked = request.json()
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    data = [{"embedding": [float(len(text)), 0.5], "index": index} for index, text in enumerate(texts)]
    document = {"data": data, "object": "list", "usage": {"prompt_tokens": 5, "total_tokens": 5}, "model": "m"}
    return UpstreamAnswer.of_json(document).script()


class World:
    """A gateway before the sandbox and an upstream, and the SDK before it."""

    def __init__(self, client: openai.AsyncOpenAI, sandbox: RunningSandbox, upstream: Upstream) -> None:
        self.client = client
        self.sandbox = sandbox
        self.upstream = upstream
        self.records = Records()


@asynccontextmanager
async def world_of(*objects: Any, **config: Any) -> AsyncIterator[World]:
    with running_sandbox() as sandbox:
        async with Upstream(answered) as upstream:
            records = Records()
            gateway = make_gateway(
                plugin_of(observers=[records], transforms=objects),
                gigachat={
                    "base_url": sandbox.base_url,
                    "auth_url": sandbox.auth_url,
                    "credentials": sandbox.key(B2B),
                    "scope": B2B,
                },
                openai={"upstreams": {"openai": {"base_url": f"{upstream.url}/v1", "api_key": "sk-upstream"}}},
                **config,
            )
            async with serve(gateway) as url, awaiting(f"{url}/v1", KEY) as client:
                made = World(client, sandbox, upstream)
                made.records = records
                yield made


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_gigachat_makes_vectors(encoding: Any) -> None:
    """The SDK gets the service's own numbers in the order of the texts, in both encodings, and the tokens of all."""
    async with world_of() as world:
        answer = await world.client.embeddings.create(
            model=GIGACHAT, input=["one", "два", "three"], encoding_format=encoding
        )
        vectors = [
            entry.embedding if encoding == "float" else list(memoryview(base64.b64decode(entry.embedding)).cast("f"))
            for entry in answer.data
        ]
        for text, got in zip(["one", "два", "three"], vectors, strict=True):
            assert got == pytest.approx(vector("Embeddings", text, 1024), abs=1e-6)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
        await until(lambda: bool(world.records.kept))
        (record,) = world.records.kept
        assert (record.dialect, record.outcome, str(record.target)) == ("openai_embeddings", "done", GIGACHAT)
        assert (record.usage.input_tokens, record.usage.output_tokens) == (answer.usage.prompt_tokens, 0)


async def test_many_texts_are_several_requests_of_one_credential() -> None:
    """250 texts are three requests to the service, and one list for the client."""
    async with world_of() as world:
        answer = await world.client.embeddings.create(model=GIGACHAT, input=[f"text {n}" for n in range(250)])
        assert [entry.index for entry in answer.data] == list(range(250))
        assert answer.data[249].embedding == pytest.approx(vector("Embeddings", "text 249", 1024), abs=1e-6)
        assert world.sandbox.stats.requests["/embeddings"] == 3


async def test_what_gigachat_cannot_do() -> None:
    """Tokens are refused by name, a model without vectors is not found, dimensions are reported as ignored."""
    async with world_of() as world:
        with pytest.raises(openai.BadRequestError) as tokens:
            await world.client.embeddings.create(model=GIGACHAT, input=[[1, 2], [3]])
        assert tokens.value.param == "input[0]"
        with pytest.raises(openai.APIStatusError) as chat:
            await world.client.embeddings.create(model="gigachat/GigaChat-2", input="a")
        assert chat.value.status_code in (400, 404)
        raw = await world.client.embeddings.with_raw_response.create(model=GIGACHAT, input="a", dimensions=3)
        assert raw.headers["x-gatewaykit-ignored"] == "dimensions"


async def test_bytes_pass_where_nothing_changes() -> None:
    """The upstream's own body reaches the client byte for byte, and the client's the upstream."""
    body = b'{"input" : "abc", "model":"openai/text-embedding-3-small","x":{"b":1,"a":2}}'
    async with world_of() as world:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(
                f"{world.client.base_url}embeddings", content=body, headers={"Authorization": f"Bearer {KEY}"}
            )
        (request,) = [request for request in world.upstream.requests if request.method == "POST"]
        assert request.body == body.replace(b"openai/text", b"text")
        assert request.path == "/v1/embeddings"
        assert answer.content.startswith(b'{"data":[{"embedding":[3.0,0.5],"index":0}],"object"')
        await until(lambda: bool(world.records.kept))
        assert world.records.kept[0].usage.input_tokens == 5


async def test_transforms_see_vectors() -> None:
    """With a transform that wants events nothing passes unread, and the SDK reads the same numbers."""
    watcher = Watcher()
    async with world_of(watcher) as world:
        answer = await world.client.embeddings.create(model=OWN, input=["a", "bcd"])
        assert [entry.embedding for entry in answer.data] == [[1.0, 0.5], [3.0, 0.5]]
        assert "EmbeddingList" in watcher.seen
        (request,) = [request for request in world.upstream.requests if request.method == "POST"]
        assert request.json()["encoding_format"] == "float"


async def test_limits_and_money_count(tmp_path: Path) -> None:
    """Tokens of texts are held against a limit before the call, and the ledger has their price after it."""
    prices = {"currency": "RUB", "models": [{"model": "gigachat/Embeddings", "input": 1000, "output": 0}]}
    async with world_of(
        database={"url": f"sqlite:///{tmp_path / 'ledger.db'}"}, prices=prices, limits={"each_key": {"tpm": 60}}
    ) as world:
        answer = await world.client.embeddings.create(model=GIGACHAT, input="несколько слов для вектора")
        with pytest.raises(openai.RateLimitError):
            await world.client.embeddings.create(model=GIGACHAT, input="слово " * 60)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False) as http, asyncio.timeout(20):
            while True:
                total = (await http.get(f"{world.client.base_url}usage")).json()["total"]
                if total["requests"] >= 2:
                    break
                await asyncio.sleep(0.02)
        assert total["input_tokens"] == answer.usage.prompt_tokens
        assert Decimal(total["spend"]) == Decimal(answer.usage.prompt_tokens) / 1000
    assert world.sandbox.stats.requests["/embeddings"] == 1
