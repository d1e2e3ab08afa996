"""Counting by labels, between one report and the next; never more series than agreed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from gatewaykit.metrics import Distribution, Metric, Reading
from gatewaykit.metrics.totals import Labels, Report, Row

OTHER = "other"
_Values = tuple[str, ...]


class SeriesBook:
    """What came on top since the last :meth:`take`. Used by one thread.

    Values of labels are given in the order of the metric's labels; an empty one is a label that is not there. Of each
    metric at most ``most`` series are told apart; ``folded`` counts the values that were put together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.folded = 0
        self._known: dict[str, set[_Values]] = {}
        self._metrics: dict[str, Metric] = {}
        self._cells: dict[tuple[str, _Values], list[float]] = {}

    def add(self, metric: Metric, values: _Values, amount: float = 1.0) -> None:
        """Count ``amount``."""
        cell = self._cells.get((metric.name, values))
        if cell is None:
            cell = self._cell(metric, values)
        cell[0] += amount

    def record(self, metric: Metric, values: _Values, numbers: Sequence[float]) -> None:
        """Take ``numbers`` into a histogram. A bucket takes what is not above its bound."""
        if not numbers:
            return
        cell = self._cells.get((metric.name, values))
        if cell is None:
            cell = self._cell(metric, values)
        # In order, a bound finds its numbers at once: with many numbers that is much less than to place each of them.
        ordered = sorted(numbers)
        below = 0
        for bucket, bound in enumerate(metric.bounds):
            upto = bisect_right(ordered, bound, below)
            cell[bucket] += upto - below
            below = upto
        cell[-2] += len(ordered) - below
        cell[-1] += sum(numbers)

    def take(self) -> Report:
        """All of it, which is then forgotten."""
        cells, self._cells = self._cells, {}
        rows: list[Row] = [
            (name, labels_of(zip(self._metrics[name].labels, values, strict=True)), numbers)
            for (name, values), numbers in cells.items()
        ]
        return Report(list({name: self._metrics[name] for name, _ in cells}.values()), rows)

    def _cell(self, metric: Metric, values: _Values) -> list[float]:
        """The numbers of a series that has none since the last report."""
        known = self._known.get(metric.name)
        if known is None:
            known = self._known[metric.name] = set()
            self._metrics[metric.name] = metric
        if values not in known:
            if len(known) >= self._most:
                values = tuple(OTHER if value else "" for value in values)
                self.folded += 1
            known.add(values)
        key = (metric.name, values)
        if key not in self._cells:
            self._cells[key] = [0.0] * (len(metric.bounds) + 2 if metric.kind == "histogram" else 1)
        return self._cells[key]


class ReadingBook:
    """Turns readings, which say how things stand, into reports of what came on top. Used by one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: dict[str, dict[Labels, list[float]]] = {}

    def report(self, readings: Iterable[Reading]) -> Report:
        """What is new; a counter that is smaller than it was has begun anew."""
        report = Report()
        metrics: dict[str, Metric] = {}
        gauges: dict[str, dict[Labels, list[float]]] = {}
        for metric, labels, numbers in self._rows(readings):
            metrics[metric.name] = metric
            if metric.kind in {"gauge", "updown"}:
                gauges.setdefault(metric.name, {})[labels] = numbers
                continue
            known = self._last.setdefault(metric.name, {})
            last = known.get(labels)
            if last is None and len(known) >= self._most:
                continue
            known[labels] = numbers
            if last is None or len(last) != len(numbers) or any(a < b for a, b in zip(numbers, last, strict=True)):
                report.counts.append((metric.name, labels, numbers))
            elif numbers != last:
                report.counts.append((metric.name, labels, [a - b for a, b in zip(numbers, last, strict=True)]))
        report.metrics = list(metrics.values())
        report.gauges = [(name, *row) for name, rows in gauges.items() for row in list(rows.items())[: self._most]]
        return report

    def _rows(self, readings: Iterable[Reading]) -> Iterator[tuple[Metric, Labels, list[float]]]:
        """Readings as numbers; those of the same series are one."""
        sums: dict[tuple[str, Labels], list[float]] = {}
        metrics: dict[str, Metric] = {}
        for reading in readings:
            metric, value = reading.metric, reading.value
            labels = labels_of((name, reading.labels.get(name, "")) for name in metric.labels)
            numbers = [*map(float, value.counts), value.total] if isinstance(value, Distribution) else [float(value)]
            known = sums.get((metric.name, labels))
            merged = numbers if known is None or len(known) != len(numbers) else _merged(metric, known, numbers)
            metrics[metric.name] = metric
            sums[metric.name, labels] = merged
        for (name, labels), numbers in sums.items():
            yield metrics[name], labels, numbers


def _merged(metric: Metric, one: list[float], other: list[float]) -> list[float]:
    if metric.kind == "gauge" and metric.merge != "sum":
        return [max(one[0], other[0]) if metric.merge == "max" else min(one[0], other[0])]
    return [a + b for a, b in zip(one, other, strict=True)]


def labels_of(pairs: Iterable[tuple[str, str]]) -> Labels:
    """Labels as reports have them."""
    return tuple(sorted((name, value) for name, value in pairs if value))
