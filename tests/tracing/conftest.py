"""A collector: it takes what OTLP's exporter sends, and keeps the spans."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.testing import running


@dataclass
class Span:
    """A span as it was sent; ids are hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: dict[str, int]
    failed: bool
    began: int
    ended: int


class Collector:
    """What came in, in its order."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        sent = ExportTraceServiceRequest.FromString(body)
        self.spans += [span_of(span) for r in sent.resource_spans for s in r.scope_spans for span in s.spans]
        return Response(b"", media_type="application/x-protobuf")

    def only(self, kind: int) -> Span:
        """The one span of this kind: 2 is a server's, 3 a client's."""
        (span,) = [span for span in self.spans if span.kind == kind]
        return span


def span_of(span: Any) -> Span:
    def value(given: Any) -> Any:
        which = given.WhichOneof("value")
        if which == "array_value":
            return [value(each) for each in given.array_value.values]
        return getattr(given, which)

    return Span(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        {pair.key: value(pair.value) for pair in span.attributes},
        {event.name: event.time_unix_nano for event in span.events},
        span.status.code == 2,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    found = Collector()
    with running(Starlette(routes=[Route("/v1/traces", found.take, methods=["POST"])])) as url:
        found.url = url
        yield found
