"""The sums in Prometheus' words, by OpenTelemetry's exporter. Imported with the first scrape.

What several processes counted cannot be put into instruments, so the reader gets it as the SDK's own data points.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gatewaykit import metrics
from gatewaykit.metrics.totals import Labels, Totals

_SCOPE = InstrumentationScope("gatewaykit")
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Exposition:
    """Renders totals for one process; ``attributes`` describe the gateway as a whole (``target_info``)."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._registry = CollectorRegistry()
        self._data = MetricsData([])
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)
        # Internal to the SDK, and watched by tests/metrics/test_exposition.py. A MeterProvider calls it with what its
        # instruments have; through one of our own, OTEL_SDK_DISABLED would empty the page without a word.
        reader._set_collect_callback(lambda *_, **__: self._data)
        self._resource = Resource.create().merge(Resource(dict(attributes))).merge(OTELResourceDetector().detect())
        self._began = time.time_ns()

    def render(self, totals: Totals, accept: str) -> tuple[bytes, str]:
        """The text and its media type, as the scraper's ``Accept`` wants it. Not for two threads at a time."""
        now = time.time_ns()
        families = [self._family(metric, rows, now) for metric, rows in totals.families()]
        scope = ScopeMetrics(_SCOPE, families, "")
        self._data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def _family(self, metric: metrics.Metric, rows: list[tuple[Labels, list[float]]], now: int) -> Metric:
        data: Any
        if metric.kind == "histogram":
            data = Histogram([self._histogram(metric, labels, numbers, now) for labels, numbers in rows], _CUMULATIVE)
        else:
            points = [NumberDataPoint(dict(labels), self._began, now, numbers[0]) for labels, numbers in rows]
            data = Gauge(points) if metric.kind == "gauge" else Sum(points, _CUMULATIVE, metric.kind == "counter")
        return Metric(metric.name, metric.description, metric.unit, data)

    def _histogram(self, metric: metrics.Metric, labels: Labels, numbers: list[float], now: int) -> HistogramDataPoint:
        counts = [int(number) for number in numbers[:-1]]
        return HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=self._began,
            time_unix_nano=now,
            count=sum(counts),
            sum=numbers[-1],
            bucket_counts=counts,
            explicit_bounds=metric.bounds,
            min=0.0,
            max=0.0,
        )
