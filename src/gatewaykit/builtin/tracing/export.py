"""From records to spans, with OpenTelemetry's SDK; imported when the gateway starts with tracing on."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gatewaykit import chance
from gatewaykit.builtin.tracing.places import Place, Try
from gatewaykit.builtin.tracing.settings import TracingSettings
from gatewaykit.logs import Redactor
from gatewaykit.tracecontext import parse, trace_id
from gatewaykit.types import Attempt, CallRecord

_SECOND = 1_000_000_000
_LONGEST = 256
_PATIENCE = 5.0
"""Seconds; the SDK itself waits for thirty, longer than many systems let a process take to stop."""

logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Exporting:
    """An SDK of its own: nothing is registered globally, so that a host application keeps what it has.

    ``redact`` goes over every text that a client made up: somebody will send a key as the name of a model.
    """

    def __init__(self, settings: TracingSettings, scheme: str, redact: Redactor) -> None:
        self._scheme = scheme
        self._redact = redact
        self._ids = _Ids()
        ours = Resource({"service.name": "gatewaykit", "service.version": version("gatewaykit")})
        resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        for name in settings.exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(name, settings)))
        self._tracer = self._provider.get_tracer("gatewaykit", version("gatewaykit"))

    def close(self) -> None:
        """Send what waits, as far as that can be done soon: a stop does not wait for a collector. Blocks."""
        closing = threading.Thread(target=self._provider.shutdown, name="gatewaykit-spans", daemon=True)
        closing.start()
        closing.join(_PATIENCE)
        if closing.is_alive():
            logger.warning("spans are given up that nobody took within %.0f s", _PATIENCE)

    def samples(self, traceparent: str | None, request_id: str, method: str) -> bool:
        """Whether this request's spans will be kept: the same question that is asked when they are made."""
        number = int(trace_id(traceparent, request_id), 16)
        context = _remote(traceparent)
        decision = self._provider.sampler.should_sample(context, number, method, SpanKind.SERVER).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def write(self, record: CallRecord, place: Place | None) -> None:
        """The spans of one call."""
        began = int(record.began * _SECOND)
        self._ids.next = (int(trace_id(record.traceparent, record.request_id), 16), place.server_id if place else 0)
        server = self._tracer.start_span(
            f"{record.method} {record.route}".strip(),
            _remote(record.traceparent),
            SpanKind.SERVER,
            self._about_request(record),
            start_time=began,
        )
        if server.is_recording():
            if record.stream and record.first_event_seconds is not None:
                server.add_event("gatewaykit.first_token", timestamp=began + int(record.first_event_seconds * _SECOND))
            _judge(server, record.error if record.status >= 500 or record.status == 200 else None)
            inside = trace.set_span_in_context(server, Context())
            for attempt, begun in _matched(record, place):
                self._write_attempt(record, attempt, begun, inside, place)
        server.end(began + int(record.seconds * _SECOND))

    def _write_attempt(
        self, record: CallRecord, attempt: Attempt, begun: Try, inside: Context, place: Place | None
    ) -> None:
        answering = attempt.error is None and attempt.target == record.target
        after = record.seconds - (record.first_event_seconds or record.seconds) if answering and record.stream else 0.0
        error = attempt.error or (
            record.error if answering and record.outcome in {"provider_error", "timeout"} else None
        )
        self._ids.next = (0, begun.span_id)
        span = self._tracer.start_span(
            f"{record.operation} {self._short(attempt.target.model)}",
            inside,
            SpanKind.CLIENT,
            {
                "gen_ai.operation.name": record.operation,
                "gen_ai.provider.name": attempt.target.provider,
                "gen_ai.request.model": self._short(attempt.target.model),
                "gen_ai.request.stream": record.stream,
            },
            start_time=begun.began,
        )
        first = begun.began + int(attempt.seconds * _SECOND)
        if answering:
            self._about_answer(span, record, attempt, place)
            if record.stream:
                span.add_event("gatewaykit.first_token", timestamp=first)
        _judge(span, error)
        span.end(first + int(after * _SECOND))

    def _about_request(self, record: CallRecord) -> dict[str, Any]:
        found = {
            "http.request.method": record.method,
            "http.route": record.route,
            "http.response.status_code": record.status,
            "url.scheme": self._scheme,
            "gen_ai.request.model": self._short(record.model or ""),
            "gatewaykit.request_id": self._short(record.request_id),
            "gatewaykit.key": record.principal,
            "gatewaykit.outcome": record.outcome,
            "gatewaykit.attempts": len(record.attempts),
        }
        return {name: value for name, value in found.items() if value not in (None, "")}

    def _about_answer(self, span: trace.Span, record: CallRecord, attempt: Attempt, place: Place | None) -> None:
        span.set_attribute("gen_ai.response.model", self._short(attempt.target.model))
        if record.stream:
            span.set_attribute("gen_ai.response.time_to_first_chunk", attempt.seconds)
        if (usage := record.usage) is not None:
            span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
            if usage.cached_tokens:
                span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
            if usage.reasoning_tokens:
                span.set_attribute("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens)
        if place is not None:
            for name, value in place.attributes.items():
                span.set_attribute(name, self._redact(value) if isinstance(value, str) else value)
            if place.reasons:
                span.set_attribute("gen_ai.response.finish_reasons", place.reasons)
            if place.said is not None:
                parts = [{"type": "text", "content": self._redact("".join(place.said))}]
                answer = [{"role": "assistant", "parts": parts}]
                span.set_attribute("gen_ai.output.messages", _encode(answer).decode())

    def _short(self, text: str) -> str:
        """Redacted before it is cut: half a key is known to nobody as one."""
        return self._redact(text)[:_LONGEST]


class _Ids(IdGenerator):
    """Gives the ids that were told to providers while the call was on its way; new ones where there are none."""

    def __init__(self) -> None:
        self.next = (0, 0)

    def generate_trace_id(self) -> int:
        return self.next[0] or chance.bits(128) or 1

    def generate_span_id(self) -> int:
        return self.next[1] or chance.bits(64) or 1


def _exporter(name: str, settings: TracingSettings) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(out=sys.stdout, formatter=_line)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    endpoint = settings.traces_endpoint or (f"{settings.endpoint.rstrip('/')}/v1/traces" if settings.endpoint else None)
    return OTLPSpanExporter(endpoint=endpoint)


def _line(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + os.linesep


def _remote(traceparent: str | None) -> Context:
    """The caller's span; an empty context where there is none."""
    parent = parse(traceparent)
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    span = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span), Context())


def _matched(record: CallRecord, place: Place | None) -> Iterator[tuple[Attempt, Try]]:
    """Each attempt with the span's id that its provider was told. A provider's own further tries have none."""
    waiting = list(place.tries) if place else []
    moment = int(record.began * _SECOND)
    for attempt in record.attempts:
        begun = next((one for one in waiting if one.target == attempt.target), None)
        if begun is None:
            begun = Try(attempt.target, 0, moment)
        else:
            waiting.remove(begun)
        moment = begun.began + int(attempt.seconds * _SECOND)
        yield attempt, begun


def _judge(span: trace.Span, error: str | None) -> None:
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
