"""What the gateway measures of itself and of the calls, for Prometheus at ``/metrics``; see ``docs/observability.md``.

A request pays for an append to a list. All else is done by a thread, the sums are kept by the parent of the workers,
and OpenTelemetry is imported by the first scrape.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from gatewaykit.builtin.metrics.collector import PATH, Collector
from gatewaykit.builtin.metrics.measures import Measures
from gatewaykit.builtin.metrics.scraping import Entrance, Scraping
from gatewaykit.builtin.metrics.series import SeriesBook
from gatewaykit.builtin.metrics.settings import MetricsSettings
from gatewaykit.errors import GatewayError
from gatewaykit.guarding import Answer, guarded
from gatewaykit.hookspecs import hookimpl
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Lifespan, Observer
from gatewaykit.settings import Section, ServerSettings
from gatewaykit.types import ADMIN, Principal


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[metrics]``."""
    return [MetricsSettings]


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """The counter, unless it is switched off."""
    settings = gateway.settings.get(MetricsSettings)
    if not settings.enabled:
        return []
    book = SeriesBook(settings.series)
    scheme = "https" if gateway.settings.get(ServerSettings).tls_certfile else "http"
    measures = Measures(settings, book, PriceBook.of(gateway), gateway.knows, scheme)
    collector = Collector(measures, book, gateway.readings, settings.series)
    gateway.tally.contribute(collector.report)
    return [collector]


@hookimpl
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """``/metrics``, unless it has a port of its own."""
    settings = gateway.settings.get(MetricsSettings)
    if not settings.enabled or settings.port is not None:
        return []
    scraping, entrance = _scraping(gateway), Entrance(settings, gateway)

    async def as_administrator(request: Request, principal: Principal) -> Response:
        return await scraping.answer(request)

    for_keys = guarded(gateway, ADMIN, as_administrator)

    async def metrics(request: Request) -> Response:
        if entrance.has_token(request) or entrance.is_open_to(request):
            return await _told(scraping, request)
        return await for_keys(request)

    return [Route(PATH, metrics)]


@hookimpl
def gateway_lifespan(gateway: GatewayContext) -> Iterable[Lifespan]:
    """The port of its own, if there is to be one."""
    settings = gateway.settings.get(MetricsSettings)
    if not settings.enabled or settings.port is None:
        return []
    from gatewaykit.builtin.metrics.listener import listening

    shared = gateway.settings.get(ServerSettings).workers > 1
    return [listening(settings, _own_port(settings, gateway), shared=shared)]


def _own_port(settings: MetricsSettings, gateway: GatewayContext) -> Answer:
    scraping, entrance = _scraping(gateway), Entrance(settings, gateway)

    async def metrics(request: Request) -> Response:
        if settings.token is None or entrance.has_token(request):
            return await _told(scraping, request)
        return PlainTextResponse("This needs the token.\n", 401, {"www-authenticate": 'Bearer realm="gatewaykit"'})

    return metrics


def _scraping(gateway: GatewayContext) -> Scraping:
    return Scraping(gateway.tally, gateway.settings.get(ServerSettings).port)


async def _told(scraping: Scraping, request: Request) -> Response:
    try:
        return await scraping.answer(request)
    except GatewayError as error:
        return PlainTextResponse(f"{error.message}\n", error.status)
