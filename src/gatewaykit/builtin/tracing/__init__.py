"""Traces by OpenTelemetry, for those who ask for them with its own variables; see ``docs/observability.md``.

Without them nothing is made and nothing imported. With them a request pays for the place in the trace that its provider
is told; spans are written afterwards, from what is known then.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from gatewaykit.builtin.tracing.settings import TracingSettings
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Observer, Transform
from gatewaykit.settings import Section, ServerSettings

if TYPE_CHECKING:
    from gatewaykit.builtin.tracing.tracer import Tracer

_made: WeakKeyDictionary[GatewayContext, Tracer] = WeakKeyDictionary()


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[tracing]``."""
    return [TracingSettings]


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """Who writes the spans, if there are to be any."""
    settings = gateway.settings.get(TracingSettings)
    if not settings.exporters:
        return []
    if "otlp" in settings.exporters and find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        problem = "the exporter otlp is not installed: pip install 'gatewaykit[otlp]'"
        raise ConfigError([ConfigFault(problem, "tracing.exporter")])
    from gatewaykit.builtin.tracing.tracer import Tracer
    from gatewaykit.logs import Redactor, secrets_in

    scheme = "https" if gateway.settings.get(ServerSettings).tls_certfile else "http"
    known = secrets_in(getattr(gateway.settings, "sections", {}))
    _made[gateway] = Tracer(settings, scheme, Redactor(known))
    return [_made[gateway]]


@hookimpl
def gateway_transforms(gateway: GatewayContext) -> Iterable[Transform]:
    """Who tells providers of the trace, and who keeps what is said, if that is asked for."""
    tracer = _made.get(gateway)
    if tracer is None:
        return []
    from gatewaykit.builtin.tracing.hooks import Content, Propagation

    transforms: list[Transform] = [Propagation(tracer)]
    if gateway.settings.get(TracingSettings).content:
        transforms.append(Content())
    return transforms
