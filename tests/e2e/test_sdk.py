"""The official OpenAI SDK, sync and async, talks to both providers and finds everything where it expects it."""

from __future__ import annotations

import asyncio
import struct
import zlib
from base64 import b64encode

import openai
import pydantic
import pytest

from .talking import Talker, talking, text_of, user
from .world import GIGACHAT, GPT, KEY, PROMPT, World, provider_of

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю — «ёлки» 🎄"


class City(pydantic.BaseModel):
    """What ``parse`` is to make of an answer."""

    name: str
    population: int


async def test_an_answer_in_one_piece(talker: Talker, model: str) -> None:
    """A completion has the text, the finish reason and a usage that adds up."""
    answer = await talker.create(model=model, messages=user("say 5 words"))
    assert answer.choices[0].message.content == "word1 word2 word3 word4 word5"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream(talker: Talker, model: str) -> None:
    """A stream read chunk by chunk is one answer in pieces: role first, finish reason last, one id, no usage."""
    chunks: list = []
    await talker.chunks(chunks, model=model, messages=user("say 9 words"))
    assert text_of(chunks) == " ".join(f"word{number}" for number in range(1, 10))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert len([chunk for chunk in chunks if text_of([chunk])]) > 3
    assert not [chunk for chunk in chunks if chunk.usage]


async def test_usage_of_a_stream(talker: Talker, model: str) -> None:
    """With ``include_usage`` the last chunk, and only that, has the usage and no choice."""
    chunks: list = []
    await talker.chunks(chunks, model=model, messages=user("say 9 words"), stream_options={"include_usage": True})
    assert [chunk for chunk in chunks if chunk.usage] == chunks[-1:]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


async def test_the_helper_for_streams(talker: Talker, model: str) -> None:
    """The SDK's stream helper gives its events in order and adds up the same text."""
    events: list = []
    final = await talker.events(events, model=model, messages=user("say 9 words"))
    kinds = [event.type for event in events]
    assert kinds[0] == "chunk"
    assert kinds.index("content.delta") < kinds.index("content.done")
    assert final.choices[0].message.content == " ".join(f"word{number}" for number in range(1, 10))
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == final.choices[0].message.content


async def test_parse(talker: Talker, model: str) -> None:
    """``parse`` makes a pydantic object of an answer whose schema it sent."""
    answer = await talker.parse(model=model, messages=user("Which city?"), response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


async def test_parse_of_a_stream(talker: Talker, model: str) -> None:
    """The stream helper makes the same object, in the end and in its last event."""
    events: list = []
    final = await talker.events(events, model=model, messages=user("Which city?"), response_format=City)
    assert isinstance(final.choices[0].message.parsed, City)
    done = [event for event in events if event.type == "content.done"]
    assert [event.parsed for event in done] == [final.choices[0].message.parsed]


async def test_russian_text(talker: Talker, model: str) -> None:
    """Russian letters, typographic marks and emoji arrive as they were sent, whole and in pieces."""
    answer = await talker.create(model=model, messages=user(RUSSIAN))
    assert RUSSIAN in answer.choices[0].message.content
    chunks: list = []
    await talker.chunks(chunks, model=model, messages=user(RUSSIAN))
    assert RUSSIAN in text_of(chunks)


async def test_a_long_stream(talker: Talker, model: str) -> None:
    """A stream of five thousand chunks arrives complete and in order."""
    chunks: list = []
    await talker.chunks(chunks, model=model, messages=user("say 10000 words"))
    assert len([chunk for chunk in chunks if text_of([chunk])]) == 5000
    assert text_of(chunks).split() == [f"word{number}" for number in range(1, 10_001)]


async def test_the_list_of_models(talker: Talker, model: str) -> None:
    """Models of both providers and aliases are listed, sorted, and each can be looked up."""
    names = [listed.id for listed in await talker.models()]
    assert {GIGACHAT, GPT, "either"} <= set(names)
    assert names == sorted(names)
    assert (await talker.model(model)).id == model


async def test_headers(talker: Talker, model: str, world: World) -> None:
    """An answer says which request it belongs to, who answered, and how long each stage took."""
    raw = await talker.raw(model=model, messages=user("say 2 words"), extra_headers={"x-request-id": "my-own.id_1"})
    assert raw.headers["x-request-id"] == "my-own.id_1"
    assert raw.headers["x-gatewaykit-target"] == f"{provider_of(model)}/{model}"
    stages = [stage.partition(";")[0].strip() for stage in raw.headers["server-timing"].split(",")]
    assert stages == ["auth", "decode", "route", "limit", "provider", "overhead"]
    assert "server" not in raw.headers
    assert raw.parse().choices[0].message.content == "word1 word2"


@pytest.mark.parametrize("stream", [False, True])
async def test_parameters_that_cannot_be_honoured(talker: Talker, stream: bool) -> None:
    """What GigaChat does not know is named in a header, and the answer still comes."""
    raw = await talker.raw(model=GIGACHAT, messages=user("say 2 words"), seed=7, logit_bias={"5": 1}, stream=stream)
    assert raw.status_code == 200
    ignored = raw.headers["x-gatewaykit-ignored"].split(", ")
    assert {"seed", "logit_bias"} <= set(ignored)


async def test_an_image(talker: Talker, world: World) -> None:
    """An image as a data URL is uploaded to GigaChat once, and the model sees it with its size."""
    uploads = world.sandbox.stats.uploads
    image = _png()
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64encode(image).decode()}"}},
    ]
    for _ in range(2):
        answer = await talker.create(model=GIGACHAT, messages=[{"role": "user", "content": content}])
        assert f"image/png, {len(image)} bytes" in answer.choices[0].message.content
    assert world.sandbox.stats.uploads <= uploads + 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "169.254.169.254", "10.1.2.3"]
)
async def test_an_image_from_within(world: World, host: str) -> None:
    """An image at an address of the gateway's own network is refused, and nobody is asked for it."""
    seen, known = len(world.upstream.requests), len(world.sandbox.journal.entries())
    url = f"http://{host}:{world.upstream.url.rpartition(':')[2]}/secret.png"
    content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}]
    async with talking("async", world.base_url, KEY) as talker:
        with pytest.raises(openai.BadRequestError) as caught:
            await talker.create(model=GIGACHAT, messages=[{"role": "user", "content": content}])
    assert "messages" in (caught.value.param or "")
    assert (len(world.upstream.requests), len(world.sandbox.journal.entries())) == (seen, known)


async def test_many_at_once(world: World, model: str) -> None:
    """Calls that run at the same time get each its own answer."""
    async with talking("async", world.base_url, KEY) as talker:

        async def one(number: int) -> None:
            told = f"repeat: number {number} of many" if model == GIGACHAT else f"number {number} of many"
            if number % 2:
                answer = await talker.create(model=model, messages=user(told))
                text = answer.choices[0].message.content
            else:
                chunks: list = []
                await talker.chunks(chunks, model=model, messages=user(told))
                text = text_of(chunks)
            assert text.removeprefix("You wrote: ") == f"number {number} of many"

        await asyncio.gather(*(one(number) for number in range(8 if model == GIGACHAT else 40)))


def _png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\x00\x80")) + chunk(b"IEND", b"")
