"""A server that nobody here wrote (LLMock, from the Python registry) behind the gateway, the official SDK before it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from gatewaykit import Transform
from gatewaykit.testing import KEY, make_gateway, plugin_of, running, serve

MODEL = "llmock/gpt-4o"
ASK: Any = [{"role": "user", "content": "How are you today?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class Watcher(Transform):
    """Wants to see events, so that everything is translated there and back."""

    name = "watcher"

    def on_event(self, call: Any, event: Any) -> Any:
        return event


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """The address of the server, which echoes what it is told."""
    if importlib.util.find_spec("llmock") is None:
        pytest.skip("llmock is not installed: pip install llmock")
    from llmock.main import create_app
    from llmock.simulation import MockResponseSettings

    before = logging.getLogger("uvicorn.access").filters[:]
    with running(create_app(responses=MockResponseSettings(response_style="echo"))) as url:
        yield url
    logging.getLogger("uvicorn.access").filters[:] = before


@pytest.fixture(params=["bytes pass", "translated"])
async def client(request: pytest.FixtureRequest, foreign: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK before a gateway that lets bytes pass, or has to translate them."""
    plugins = [plugin_of(transforms=[Watcher()])] if request.param == "translated" else []
    upstreams = {"llmock": {"base_url": f"{foreign}/v1", "api_key": "sk-anything"}}
    gateway = make_gateway(*plugins, openai={"upstreams": upstreams})
    async with (
        serve(gateway) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made,
    ):
        yield made


async def test_models(client: openai.AsyncOpenAI) -> None:
    """Its models are on offer, and one can be called by its own name."""
    patient = client.with_options(max_retries=20)  # told to come back while the first list is under way
    names = [model.id async for model in patient.models.list()]
    assert "gpt-4o" in names
    answer = await client.chat.completions.create(model="gpt-4o", messages=ASK)
    assert answer.choices[0].finish_reason == "stop"


async def test_chat(client: openai.AsyncOpenAI, foreign: str) -> None:
    """An answer in one piece is the server's own, with its token counts."""
    answer = await client.chat.completions.create(model=MODEL, messages=ASK)
    async with httpx.AsyncClient(trust_env=False) as http:
        own = (await http.post(f"{foreign}/v1/chat/completions", json={"model": "gpt-4o", "messages": ASK})).json()
    assert answer.choices[0].message.content == own["choices"][0]["message"]["content"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == own["usage"]["total_tokens"]


async def test_streams(client: openai.AsyncOpenAI) -> None:
    """A stream adds up to the answer in one piece, and has usage if asked for."""
    whole = await client.chat.completions.create(model=MODEL, messages=ASK)
    stream = await client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == (whole.usage.total_tokens if whole.usage else 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_tools(client: openai.AsyncOpenAI, stream: bool) -> None:
    """A tool call arrives whole, in one piece and streamed."""
    given = await client.chat.completions.create(model=MODEL, messages=ASK, tools=TOOLS, stream=stream)
    if not stream:
        (call,) = given.choices[0].message.tool_calls
        assert (call.function.name, given.choices[0].finish_reason) == ("weather", "tool_calls")
        return
    chunks = [chunk async for chunk in given]
    pieces = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()]
    assert [piece.function.name for piece in pieces if piece.function.name] == ["weather"]
    assert "city" in "".join(piece.function.arguments or "" for piece in pieces)


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(client: openai.AsyncOpenAI, foreign: str, encoding: Any) -> None:
    """Vectors are the server's own, whichever encoding the client asks for."""
    answer = await client.embeddings.create(model="llmock/text-embedding-3-small", input=["one", "two"])
    async with httpx.AsyncClient(trust_env=False) as http:
        body = {"model": "text-embedding-3-small", "input": ["one", "two"], "encoding_format": encoding}
        own = (await http.post(f"{foreign}/v1/embeddings", json=body)).json()
    for entry, expected in zip(answer.data, own["data"], strict=True):
        assert entry.embedding == pytest.approx(expected["embedding"], abs=1e-6)
    assert answer.usage.prompt_tokens == own["usage"]["prompt_tokens"]


async def test_its_refusals(client: openai.AsyncOpenAI) -> None:
    """What the server refuses in a request is the client's 400."""
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model=MODEL, messages=ASK, extra_body={"n": "many"})
