"""The pytest plugin of gatewaykit: fixtures that make gateways. It is loaded wherever gatewaykit is installed, so it
imports nothing until one of them is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from gatewaykit import Gateway

pytest.register_assert_rewrite("gatewaykit.testing.contract")


@pytest.fixture
def gateway_factory() -> Callable[..., Gateway]:
    """:func:`gatewaykit.testing.make_gateway`: plugins and sections of the configuration in, a gateway out."""
    from gatewaykit.testing.gateways import make_gateway

    return make_gateway


@pytest.fixture
def gateway_server() -> Iterator[Callable[..., httpx.Client]]:
    """Like ``gateway_factory``, but the gateway is served on a socket until the test ends, and what comes out is a
    blocking HTTP client with its address and key.
    """
    import httpx

    from gatewaykit.testing.gateways import KEY, make_gateway, running

    with ExitStack() as stack:

        def start(*plugins: object, **config: Any) -> httpx.Client:
            url = stack.enter_context(running(make_gateway(*plugins, **config)))
            client = httpx.Client(
                base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30.0, trust_env=False
            )
            return stack.enter_context(client)

        yield start
