"""For the tests of plugins, and of applications that use a gateway.

Gateways
    :func:`make_gateway` builds one that reads nothing of this machine, :func:`gateway_client` is an HTTP client for it,
    :func:`serve` and :func:`running` put any ASGI application on a socket.
Doubles
    :class:`FakeProvider` says what it was told to say, :func:`plugin_of` makes a plugin of objects, :func:`make_call`
    a call, :func:`one_by_one` takes the batches of a stream apart, and :class:`Upstream` is a server that sends any
    bytes, stalls, and breaks off.
Contract
    :class:`ProviderContract` holds the tests that every provider has to pass: subclass it. It needs pytest.

:mod:`gatewaykit.testing.plugin` brings fixtures; pytest finds it by itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatewaykit.testing.calls import make_call, one_by_one
    from gatewaykit.testing.contract import ProviderContract
    from gatewaykit.testing.doubles import FakeProvider, plugin_of
    from gatewaykit.testing.gateways import KEY, gateway_client, make_gateway, running, serve
    from gatewaykit.testing.grammar import check_events
    from gatewaykit.testing.upstream import Step, Upstream, UpstreamAnswer, UpstreamRequest, refusing_address
    from gatewaykit.testing.waiting import until

_MODULES = {
    "KEY": "gateways",
    "FakeProvider": "doubles",
    "ProviderContract": "contract",
    "Step": "upstream",
    "Upstream": "upstream",
    "UpstreamAnswer": "upstream",
    "UpstreamRequest": "upstream",
    "check_events": "grammar",
    "gateway_client": "gateways",
    "make_call": "calls",
    "make_gateway": "gateways",
    "one_by_one": "calls",
    "plugin_of": "doubles",
    "refusing_address": "upstream",
    "running": "gateways",
    "serve": "gateways",
    "until": "waiting",
}


def __getattr__(name: str) -> Any:
    """Each name comes with its first use: pytest imports this package in every project that has it installed."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "KEY",
    "FakeProvider",
    "ProviderContract",
    "Step",
    "Upstream",
    "UpstreamAnswer",
    "UpstreamRequest",
    "check_events",
    "gateway_client",
    "make_call",
    "make_gateway",
    "one_by_one",
    "plugin_of",
    "refusing_address",
    "running",
    "serve",
    "until",
]
