"""The world that a module's tests share, and the SDK of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from .talking import Talker, talking
from .world import GIGACHAT, GPT, KEY, World, inhabited


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A gateway before a GigaChat sandbox and an OpenAI upstream. It fails when it ends if a secret has shown."""
    with inhabited() as made:
        yield made


@pytest.fixture(params=["sync", "async"])
async def talker(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Talker]:
    """The official SDK with a key that may use everything."""
    async with talking(request.param, world.base_url, KEY) as made:
        yield made


@pytest.fixture(params=[GIGACHAT, GPT])
def model(request: pytest.FixtureRequest) -> str:
    """A model behind each of the two providers."""
    return str(request.param)
