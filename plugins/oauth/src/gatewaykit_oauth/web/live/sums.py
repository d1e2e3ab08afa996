"""The sums of all workers, asked for by metric and label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gatewaykit.metrics import Metric
from gatewaykit.metrics.totals import Totals


class Sums:
    """What is counted and what stands now; of a metric that nobody has counted yet, nothing."""

    def __init__(self, totals: Totals) -> None:
        self._series = {
            metric.name: [(dict(labels), numbers) for labels, numbers in series] for metric, series in totals.families()
        }

    def has(self, metric: Metric) -> bool:
        """Whether there is any value."""
        return metric.name in self._series

    def total(self, metric: Metric, where: Mapping[str, str] | None = None) -> float:
        """The sum of the series with these labels."""
        return sum(numbers[0] for labels, numbers in self.series(metric) if _has(labels, where))

    def by(self, metric: Metric, *labels: str) -> dict[tuple[str, ...], float]:
        """Sums by the values of these labels; a label that is not there is an empty text."""
        found: dict[tuple[str, ...], float] = {}
        for given, numbers in self.series(metric):
            values = tuple(given.get(label, "") for label in labels)
            found[values] = found.get(values, 0.0) + numbers[0]
        return found

    def most(self, metric: Metric) -> float | None:
        """The largest value of a gauge."""
        return max((numbers[0] for _, numbers in self.series(metric)), default=None)

    def buckets(self, metric: Metric, where: Mapping[str, str] | None = None) -> tuple[float, ...]:
        """How many values of a histogram fell into each of its buckets."""
        counts = [0.0] * (len(metric.bounds) + 1)
        for labels, numbers in self.series(metric):
            if _has(labels, where):
                counts = [known + new for known, new in zip(counts, numbers[:-1], strict=True)]
        return tuple(counts)

    def series(self, metric: Metric) -> Iterator[tuple[Mapping[str, str], Sequence[float]]]:
        """Every series, with its labels."""
        yield from self._series.get(metric.name, ())


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """What this share of the values does not exceed, as PromQL's ``histogram_quantile`` estimates it; None for none."""
    rank, below = share * sum(counts), 0.0
    if not rank:
        return None
    for place, count in enumerate(counts[:-1]):
        if below + count >= rank:
            begins = bounds[place - 1] if place else 0.0
            return begins + (bounds[place] - begins) * (rank - below) / count
        below += count
    return bounds[-1]


def _has(labels: Mapping[str, str], where: Mapping[str, str] | None) -> bool:
    return where is None or all(labels.get(name, "") == value for name, value in where.items())
