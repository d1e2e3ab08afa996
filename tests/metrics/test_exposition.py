"""The one place that leans on the inside of OpenTelemetry's SDK: when an upgrade moves it, this says what broke."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry

from gatewaykit.builtin.metrics.exposition import Exposition
from gatewaykit.metrics import Distribution, Metric
from gatewaykit.metrics.totals import Report, Totals

MOVED = (
    "opentelemetry-sdk {sdk} or opentelemetry-exporter-prometheus {exporter} has moved what the exposition leans on: "
    "{what}. Mend gatewaykit/builtin/metrics/exposition.py, or hold the version back; until then /metrics is empty."
)
HITS = Metric("acme.hits", "counter", "{hit}", "Hits.", ("who",))
TIMES = Metric("acme.time", "histogram", "s", "Times.", bounds=(0.1, 1.0))


def moved(what: str) -> str:
    """What to tell the one who upgrades."""
    versions = {"sdk": version("opentelemetry-sdk"), "exporter": version("opentelemetry-exporter-prometheus")}
    return MOVED.format(what=what, **versions)


def totals() -> Totals:
    """Two metrics with a series each."""
    taken = Distribution(TIMES.bounds)
    taken.record(0.5)
    numbers = [*map(float, taken.counts), taken.total]
    found = Totals()
    found.add(Report([HITS, TIMES], [(HITS.name, (("who", "a"),), [3.0]), (TIMES.name, (), numbers)]))
    return found


def test_the_reader_takes_a_source_of_its_own() -> None:
    """A Prometheus reader can be told where its data come from, and asks there once for each rendering."""
    registry, asked = CollectorRegistry(), []
    reader = PrometheusMetricReader(registry=registry)
    assert hasattr(reader, "_set_collect_callback"), moved("MetricReader._set_collect_callback is gone")
    reader._set_collect_callback(lambda *_, **__: asked.append(1))
    list(registry.collect())
    assert asked == [1], moved("the reader does not ask the callback that it was given")


def test_sums_become_text_by_the_exporter_s_own_spelling() -> None:
    """Counters and histograms of other processes are in the page, whole."""
    text = Exposition({"service.name": "acme"}).render(totals(), "")[0].decode()
    assert 'acme_hits_total{who="a"} 3.0' in text, moved("data points that were put together by hand are not rendered")
    assert 'acme_time_seconds_bucket{le="1.0"} 1.0' in text, moved("histogram points are not rendered")
    assert 'service_name="acme"' in text, moved("the resource does not become target_info")


def test_switching_the_sdk_off_does_not_empty_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SDK_DISABLED` is about traces; metrics have a switch of their own."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert b"acme_hits_total" in Exposition({}).render(totals(), "")[0]
