"""Whether there are traces, by OpenTelemetry's own variables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gatewaykit.settings import Section

_ON = frozenset({"true", "1", "span_only", "span_and_event"})
_OFF = frozenset({"", "false", "0", "no_content", "event_only"})


def _switch(value: object) -> object:
    """The words that the variable of OpenTelemetry's GenAI instrumentations knows; there are no events here."""
    if isinstance(value, str) and value.lower() in _ON | _OFF:
        return value.lower() in _ON
    return value


def _names(value: object) -> object:
    return ",".join(name.strip().lower() for name in value.split(",")) if isinstance(value, str) else value


class TracingSettings(Section):
    """Traces by OpenTelemetry. There are none unless an exporter or an endpoint is given; sampling, headers, names and
    sizes are set by its own `OTEL_` variables.
    """

    section = "tracing"
    environment = {  # noqa: RUF012 - a class variable of the base
        "OTEL_SDK_DISABLED": "disabled",
        "OTEL_TRACES_EXPORTER": "exporter",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "endpoint",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "traces_endpoint",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "protocol",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "content",
    }

    disabled: bool = Field(False, description="No traces, whatever else is said.")
    exporter: Annotated[str, BeforeValidator(_names)] = Field(
        "",
        pattern=r"^$|^(none|otlp|console)(,(none|otlp|console))*$",
        description="`otlp`, `console` (a JSON object a line on standard output) or `none`; several with commas.",
    )
    endpoint: str = Field("", description="Base URL of a collector (OTLP over HTTP); `/v1/traces` is added.")
    traces_endpoint: str = Field("", description="The same for traces alone; nothing is added.")
    protocol: Literal["", "http/protobuf"] = Field("", description="How to speak with it; there is no other way.")
    content: Annotated[bool, BeforeValidator(_switch)] = Field(
        False, description="Put prompts and answers into spans. They are what people said: mind who may read traces."
    )

    @property
    def exporters(self) -> tuple[str, ...]:
        """Where spans go; nowhere if there are none."""
        if self.disabled:
            return ()
        if not self.exporter:
            return ("otlp",) if self.endpoint or self.traces_endpoint else ()
        named = [name for name in self.exporter.split(",") if name != "none"]
        return tuple(dict.fromkeys(named))
