"""Providers, for admins: which there are, which models they list, and how those do that have been asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.protocols import GatewayContext

from ..signin.sessions import Session
from .rendering import render
from .site import site_of


@dataclass(frozen=True, slots=True)
class Seen:
    """How a model of a provider does, as the process that answers the page has seen it.

    ``seconds`` is what an answer, or its first word in a stream, is expected to take now; ``opens_in`` seconds are left
    until it is tried again, where it is left alone.
    """

    model: str
    circuit: str
    opens_in: float
    in_flight: int
    calls: int
    failures: int
    seconds: float | None
    last_error: str | None


async def show_providers(request: Request, session: Session) -> Response:
    """All of them."""
    site = site_of(request)
    return render(request, "providers.html", offers=await site.models.offers(), seen=seen(site.desk.gateway))


def seen(gateway: GatewayContext) -> Mapping[str, list[Seen]]:
    """The models that have been asked, or that the configuration names, by provider."""
    now, found = time.monotonic(), dict[str, list[Seen]]()
    for state in sorted(gateway.targets.all(), key=lambda state: str(state.target)):
        seconds = max(state.first_event.expected(now), state.whole.expected(now)) if state.calls else None
        found.setdefault(state.target.provider, []).append(
            Seen(
                state.target.model,
                state.circuit,
                state.opens_in(now),
                state.in_flight,
                state.calls,
                state.failures,
                seconds,
                state.last_error,
            )
        )
    return found
