"""A gateway with limits, and the official SDK in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import openai
import pytest

from gatewaykit import Gateway
from gatewaykit.testing import KEY, FakeProvider, make_gateway, plugin_of, serve

Ask = Callable[..., Any]
SEEN = {"messages": [{"role": "user", "content": "hello"}], "model": "small"}


def limited(*plugins: object, provider: FakeProvider | None = None, **config: Any) -> Gateway:
    """A gateway with one provider, whose ``config`` has the limits."""
    fake = provider or FakeProvider(models=["small", "large"])
    return make_gateway(plugin_of(providers=[fake]), *plugins, router={"default_provider": "fake"}, **config)


@asynccontextmanager
async def sdk(gateway: Gateway, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """The OpenAI SDK with the gateway on a socket; it does not try again, unless told so."""
    async with (
        serve(gateway) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, **{"max_retries": 0, **options}) as client,
    ):
        yield client


@pytest.fixture
def client() -> Callable[..., AbstractAsyncContextManager[openai.AsyncOpenAI]]:
    """:func:`sdk`, for tests."""
    return sdk


@pytest.fixture
def gateway_with() -> Callable[..., Gateway]:
    """:func:`limited`, for tests."""
    return limited


@pytest.fixture
def question() -> dict[str, Any]:
    """A small request."""
    return dict(SEEN)
