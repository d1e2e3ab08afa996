"""Metrics and their values, in OpenTelemetry's terms, with the standard library alone."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct, field

Kind: TypeAlias = Literal["counter", "updown", "gauge", "histogram"]
Merge: TypeAlias = Literal["sum", "max", "min"]
NO_LABELS: Mapping[str, str] = MappingProxyType({})

_UNITS = {"s": "seconds", "By": "bytes", "1": ""}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9:]+")


class Metric(Struct, frozen=True):
    """What is measured. ``name``, ``kind`` and ``unit`` (UCUM) are OpenTelemetry's; an ``updown`` is a sum of gauges.

    ``labels`` are the attributes that its values may carry, each of few values: never what a client made up.
    ``bounds`` are a histogram's. ``merge`` says what the values of several workers are together, where they are gauges.
    ``convention`` is the document that defines the metric; empty for the gateway's own.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: Merge = "sum"
    convention: str = ""

    @property
    def prometheus(self) -> str:
        """The name of its family in Prometheus: for a histogram without ``_bucket``, ``_sum`` and ``_count``."""
        name = _NOT_IN_NAMES.sub("_", self.name)
        unit = "" if self.unit.startswith("{") else _UNITS[self.unit]
        if unit and not name.endswith(unit):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind == "counter" else name

    @property
    def prometheus_labels(self) -> tuple[str, ...]:
        """The names of its labels in Prometheus."""
        return tuple(_NOT_IN_NAMES.sub("_", label) for label in self.labels)


class Distribution:
    """A histogram's values until now: how many fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Count one value. A bucket takes what is not above its bound."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Reading(Struct, frozen=True):
    """How something stands now, as an object's ``readings()`` tells it.

    ``value`` of a counter is all that was counted since the process began, of a histogram a :class:`Distribution`.
    ``labels`` are some of the metric's own; what differs in them is a series of its own.
    """

    metric: Metric
    value: float | Distribution
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
