"""What the tests of the metrics share: a scrape, read as Prometheus reads it, and the tool that judges it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gatewaykit.metrics import Metric
from gatewaykit.testing import machine


class Scrape(Mapping[str, dict[frozenset[tuple[str, str]], float]]):
    """Samples by name and labels. ``families`` are kinds by name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, str] = {}
        self._samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in text_string_to_metric_families(text):
            self.families[family.name] = family.type
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def __getitem__(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        return self._samples[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return sum(map(len, self._samples.values()))

    def total(self, metric: Metric, *, sample: str = "", **labels: str) -> float:
        """The sum over all series that have these labels; of a histogram, how many values it took."""
        name = metric.prometheus + (sample or ("_count" if metric.kind == "histogram" else ""))
        wanted = set(labels.items())
        return sum(value for known, value in self._samples.get(name, {}).items() if wanted <= known)


@pytest.fixture
def read_scrape() -> type[Scrape]:
    """Reads what ``/metrics`` says."""
    return Scrape


@pytest.fixture
def promtool() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """``promtool check metrics``."""
    program = machine.program("prometheus", "promtool is not installed: apt-get install prometheus", "promtool")

    def check(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
        )

    return check
