"""Answering a scrape, and whether the one who scrapes may see it."""

from __future__ import annotations

import asyncio
import hmac
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.builtin.metrics.settings import MetricsSettings
from gatewaykit.protocols import GatewayContext, Tally
from gatewaykit.serving.server import is_loopback
from gatewaykit.settings import ServerSettings

if TYPE_CHECKING:
    from gatewaykit.builtin.metrics.exposition import Exposition

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


class Scraping:
    """``/metrics``: one scrape after the other, each of all processes."""

    def __init__(self, tally: Tally, port: int) -> None:
        self._tally = tally
        self._attributes = {
            "service.name": "gatewaykit",
            "service.version": version("gatewaykit"),
            "service.instance.id": f"{socket.gethostname()}:{port}",
        }
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._exposition: Exposition | None = None

    async def answer(self, request: Request) -> Response:
        """The metrics as text. Raises :class:`~gatewaykit.errors.Unavailable`."""
        loop = asyncio.get_running_loop()
        for ended in [known for known in tuple(self._turns) if known.is_closed()]:
            self._turns.pop(ended, None)
        async with self._turns.setdefault(loop, asyncio.Lock()):
            totals = await self._tally.read()
            exposition = self._exposition
            if exposition is None:
                exposition = await asyncio.to_thread(self._load)
            text, media_type = await asyncio.to_thread(exposition.render, totals, request.headers.get("accept", ""))
        return Response(text, 200, {"content-type": media_type, "cache-control": "no-store"})

    def _load(self) -> Exposition:
        """OpenTelemetry costs time and memory: it is imported where somebody scrapes, and not before."""
        from gatewaykit.builtin.metrics.exposition import Exposition

        self._exposition = made = Exposition(self._attributes)
        return made


class Entrance:
    """Who may scrape without a key: the owner of the token; without a token, this machine."""

    def __init__(self, settings: MetricsSettings, gateway: GatewayContext) -> None:
        server = gateway.settings.get(ServerSettings)
        self._token = settings.token
        self._is_local = is_loopback(server.host) and not server.trusted_proxies

    def has_token(self, request: Request) -> bool:
        """Whether the token was given."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return (
            self._token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given.strip().encode(), self._token.get_secret_value().encode())
        )

    def is_open_to(self, request: Request) -> bool:
        """Whether no token is wanted, and the request comes from this machine, to this machine, through no proxy.

        The name in ``Host`` has to be this machine's as well: else a page in a browser could be made to ask.
        """
        if self._token is not None or not self._is_local or request.client is None:
            return False
        headers = request.headers
        return (
            is_loopback(request.client.host)
            and is_loopback(_hostname(headers.get("host", "")))
            and not any(name in headers for name in _FORWARDED)
        )


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
