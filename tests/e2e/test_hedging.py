"""Hedging between real providers: the loser's connection is closed, and the winner's stream is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .talking import talking, text_of, user
from .world import GIGACHAT, GPT, KEY, World, inhabited

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
GIGACHAT_TARGET, GPT_TARGET = {"to": f"gigachat/{GIGACHAT}"}, {"to": f"openai/{GPT}"}


@pytest.fixture(scope="module")
def hedged() -> Iterator[World]:
    """Two models, each with both providers, and a second target after a tenth of a second."""
    hedge = {"after": 0.1, "quantile": 0.999}
    models = {
        "gigachat-first": {"targets": [GIGACHAT_TARGET, GPT_TARGET], "hedge": hedge},
        "openai-first": {"targets": [GPT_TARGET, GIGACHAT_TARGET], "hedge": hedge},
    }
    with inhabited(router={"models": models, "aliases": {}}, hedging={"share": 1.0}) as made:
        yield made


@both_ways
@pytest.mark.parametrize(
    ("model", "fault", "winner"),
    [
        ("gigachat-first", "[[fault: delay=30]]", f"openai/{GPT}"),
        ("gigachat-first", "[[fault: stall=0]]", f"openai/{GPT}"),
        ("openai-first", "[[upstream: silent]]", f"gigachat/{GIGACHAT}"),
        ("openai-first", "[[upstream: silent-after-head]]", f"gigachat/{GIGACHAT}"),
    ],
)
async def test_the_other_answers(hedged: World, model: str, fault: str, winner: str, stream: bool) -> None:
    """A first that is silent is overtaken and left; nothing of it remains."""
    async with talking("async", hedged.base_url, KEY) as talker:
        raw = await talker.raw(model=model, messages=user(f"say 4 words {fault}"), stream=stream)
        assert raw.headers["x-gatewaykit-target"] == winner
        assert raw.headers["x-gatewaykit-attempts"] == "2"


async def test_its_stream_is_whole(hedged: World) -> None:
    """It was begun in one task and is read in another, to its end."""
    async with talking("async", hedged.base_url, KEY) as talker:
        for model, fault in (("gigachat-first", "[[fault: delay=30]]"), ("openai-first", "[[upstream: silent]]")):
            chunks: list[Any] = []
            await talker.chunks(chunks, model=model, messages=user(f"say 60 words {fault}"))
            assert text_of(chunks).split()[:3] == ["word1", "word2", "word3"]
            assert len(text_of(chunks).split()) == 60
