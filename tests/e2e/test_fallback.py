"""An alias with two targets: the second answers when the first fails before its first word, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from .talking import Talker, talking, text_of, user
from .world import GIGACHAT, GPT, KEY, LIMITED_KEY, PROMPT, World, inhabited

BEFORE = ["status=500", "status=503", "status=429", "status=402", "status=403", "status=404", "html=502"]
BROKEN = ["drop=before", "empty=200", "garbage", "half-line", "drop=after:0", "finish=error"]
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both_ways
@pytest.mark.parametrize("fault", BEFORE + BROKEN)
async def test_the_second_answers(talker: Talker, world: World, fault: str, stream: bool) -> None:
    """A first target that fails is followed by the second, and headers and record say who answered."""
    raw = await talker.raw(model="either", messages=user(f"say 4 words [[fault: {fault}]]"), stream=stream)
    assert raw.headers["x-gatewaykit-target"] == f"openai/{GPT}"
    assert raw.headers["x-gatewaykit-attempts"] == "2"
    if not stream:
        assert raw.parse().choices[0].message.content == "word1 word2 word3 word4"
        record = world.record(raw.headers["x-request-id"])
        assert (record["target"], record["attempts"], record["outcome"]) == (f"openai/{GPT}", 2, "done")


async def test_its_stream_is_whole(talker: Talker) -> None:
    """The stream of the second target is its own from the first chunk to the last."""
    chunks: list[Any] = []
    await talker.chunks(chunks, model="either", messages=user("say 9 words [[fault: status=503]]"))
    assert {chunk.id for chunk in chunks} == {"chatcmpl-upstream"}
    assert text_of(chunks) == " ".join(f"word{number}" for number in range(1, 10))


@both_ways
async def test_the_first_answers(talker: Talker, world: World, stream: bool) -> None:
    """While the first target answers, the second hears nothing."""
    before = len(world.upstream.requests)
    raw = await talker.raw(model="either", messages=user("say 4 words"), stream=stream)
    assert raw.headers["x-gatewaykit-target"] == f"gigachat/{GIGACHAT}"
    assert "x-gatewaykit-attempts" not in raw.headers
    assert len(world.upstream.requests) == before


@pytest.mark.parametrize("fault", ["slow=0.01;drop=after:3", "slow=0.01;garbage=4", "drop=after:3", "garbage=4"])
async def test_not_in_mid_stream(talker: Talker, world: World, fault: str) -> None:
    """A target that fails in mid-stream is not replaced: half an answer and an error are no two answers."""
    before = len(world.upstream.requests)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await talker.chunks(chunks, model="either", messages=user(f"say 20 words {PROMPT} [[fault: {fault}]]"))
    assert caught.value.code in {"provider_unavailable", "provider_bad_answer"}
    if "slow" in fault:
        assert text_of(chunks).startswith("word1 word2")
    assert len(world.upstream.requests) == before


@both_ways
async def test_not_for_the_clients_own_fault(talker: Talker, world: World, stream: bool) -> None:
    """A request that the first target finds wrong is not tried elsewhere."""
    before = len(world.upstream.requests)
    with pytest.raises(openai.BadRequestError):
        await talker.raw(model="either", messages=user(f"{PROMPT} [[fault: status=400]]"), stream=stream)
    assert len(world.upstream.requests) == before


@both_ways
async def test_the_last_error_counts(talker: Talker, world: World, stream: bool) -> None:
    """When all targets fail, the client hears of the last failure, and the record of all attempts."""
    with pytest.raises(openai.RateLimitError) as caught:
        await talker.raw(
            model="either", messages=user(f"{PROMPT} [[fault: status=503]] [[upstream: 429]]"), stream=stream
        )
    headers = caught.value.response.headers
    assert headers["retry-after"] == "7"
    assert headers["x-gatewaykit-attempts"] == "2"
    assert "x-gatewaykit-target" not in headers
    assert world.record(headers["x-request-id"])["attempts"] == 2


async def test_only_for_those_who_may(world: World) -> None:
    """A key that may not use the alias does not come to its targets by it."""
    async with talking("async", world.base_url, LIMITED_KEY) as limited:
        with pytest.raises(openai.PermissionDeniedError):
            await limited.create(model="either", messages=user(PROMPT))


@pytest.fixture(scope="module")
def impatient() -> Iterator[World]:
    """A gateway that waits for no first event."""
    with inhabited(timeouts={"first_event": 0.4}) as made:
        yield made


@both_ways
@pytest.mark.parametrize("fault", ["delay=30", "stall=0"])
async def test_after_a_first_that_is_silent(impatient: World, fault: str, stream: bool) -> None:
    """A first target that does not begin in time is given up for the second."""
    async with talking("async", impatient.base_url, KEY) as talker:
        raw = await talker.raw(model="either", messages=user(f"say 4 words [[fault: {fault}]]"), stream=stream)
        assert raw.headers["x-gatewaykit-target"] == f"openai/{GPT}"
        assert raw.headers["x-gatewaykit-attempts"] == "2"
