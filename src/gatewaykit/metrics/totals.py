"""Adding up what several processes measure, so that a sum never falls when one of them ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import add
from typing import TypeAlias

from msgspec import Struct, field

from gatewaykit.metrics.instruments import Metric

Labels: TypeAlias = tuple[tuple[str, str], ...]
Series: TypeAlias = tuple[str, Labels]
Row: TypeAlias = tuple[str, Labels, list[float]]
"""A metric's name, labels sorted by name, and one number, or for a histogram the counts of its buckets and the sum."""

MOST_SERIES = 50_000
_MERGE: Mapping[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "min": min}


class Report(Struct):
    """What one process has to say: ``counts`` is what came on top since its last report, ``gauges`` what holds now.

    ``metrics`` explains what either of them names.
    """

    metrics: list[Metric] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    gauges: list[Row] = field(default_factory=list)


class Totals:
    """The sums of all reports. ``lost`` counts rows for which there was no room: at most ``most`` series are kept."""

    def __init__(self, most: int = MOST_SERIES) -> None:
        self._most = most
        self._metrics: dict[str, Metric] = {}
        self._counts: dict[Series, list[float]] = {}
        self._gauges: dict[int, dict[Series, float]] = {}
        self.lost = 0

    def add(self, report: Report, source: int = 0) -> None:
        """Count what ``source`` reports; its gauges replace those that it gave before."""
        for metric in report.metrics:
            self._metrics.setdefault(metric.name, metric)
        for name, labels, numbers in report.counts:
            if name not in self._metrics:
                continue
            series = (name, labels)
            known = self._counts.get(series)
            if known is not None and len(known) == len(numbers):
                known[:] = map(add, known, numbers)
            elif known is None and len(self._counts) < self._most:
                self._counts[series] = list(numbers)
            else:
                self.lost += 1
        self._gauges[source] = {(name, labels): numbers[0] for name, labels, numbers in report.gauges[: self._most]}

    def forget(self, source: int) -> None:
        """This source is gone: what it counted stays, what held for it does not hold any more."""
        self._gauges.pop(source, None)

    def report(self) -> Report:
        """All of it as one report, with the gauges of all sources merged."""
        counts = [(name, labels, list(numbers)) for (name, labels), numbers in self._counts.items()]
        gauges = [(name, labels, [value]) for (name, labels), value in self._merged().items()]
        return Report(list(self._metrics.values()), counts, gauges)

    def families(self) -> Iterator[tuple[Metric, list[tuple[Labels, list[float]]]]]:
        """Each metric that has values, with these by labels, in the order of their names."""
        report = self.report()
        values: dict[str, list[tuple[Labels, list[float]]]] = {}
        for name, labels, numbers in (*report.counts, *report.gauges):
            values.setdefault(name, []).append((labels, numbers))
        for name in sorted(values):
            yield self._metrics[name], sorted(values[name])

    def _merged(self) -> dict[Series, float]:
        found: dict[Series, list[float]] = {}
        for gauges in self._gauges.values():
            for series, value in gauges.items():
                found.setdefault(series, []).append(value)
        return {
            series: _MERGE[self._metrics[series[0]].merge](values)
            for series, values in found.items()
            if series[0] in self._metrics
        }
