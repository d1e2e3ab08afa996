"""How numbers went: what is new a minute, quantiles of the last minutes, and the lines that are drawn of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from gatewaykit.metrics.names import FIRST, LONG

from .samples import LENGTH, SECONDS, Sample
from .sums import quantile

MINUTE = 60.0
LATELY = 300.0
"""Seconds of which quantiles tell."""

WIDTH, HEIGHT = 180.0, 36.0
_SMOOTHED = int(MINUTE / SECONDS)
_LATELY = int(LATELY / SECONDS)
_ROOM = 2.0
Pick = Callable[[Sample], float]
Values = Sequence[float | None]


class Line(Struct, frozen=True):
    """A line in a box of :data:`WIDTH` by :data:`HEIGHT`, as the ``d`` of SVG paths, and the highest value in it.
    ``area`` is what lies below.
    """

    path: str
    area: str
    most: float


class Trends:
    """``now`` is this moment, ``since`` the seconds in its turn that have passed; ``samples`` are those before it."""

    def __init__(self, samples: Sequence[tuple[int, Sample]], now: Sample, since: float) -> None:
        self._by_age = dict(samples)
        self._now = now
        self._since = since

    def minute(self, pick: Pick) -> float:
        """What came on top in the last minute; in the first minute of all, since the beginning."""
        age = self._age(_SMOOTHED)
        if age is None:
            return pick(self._now)
        seconds = age * SECONDS + self._since
        return _rise(pick, self._now, self._by_age[age]) * min(1.0, MINUTE / seconds if seconds else 1.0)

    def all(self, pick: Pick) -> float:
        """What came on top since the oldest sample."""
        return _rise(pick, self._now, self._by_age[max(self._by_age)]) if self._by_age else pick(self._now)

    def answers(self, share: float) -> float | None:
        """Seconds within which this share of the good answers of the last minutes came."""
        return self._lately(share, LONG, lambda sample: sample.answers)

    def firsts(self, share: float) -> float | None:
        """The same of first tokens."""
        return self._lately(share, FIRST, lambda sample: sample.firsts)

    # Lines

    def rates(self, pick: Pick) -> Line:
        """What came on top in a minute, at every moment."""
        return line([self._rate(pick, age) for age in range(LENGTH - 1, -1, -1)])

    def levels(self, pick: Pick) -> Line:
        """What stood, at every moment."""
        known = self._by_age
        return line([pick(known[age]) if age in known else None for age in range(LENGTH - 1, -1, -1)])

    def quantiles(self, share: float, bounds: Sequence[float], pick: Callable[[Sample], Sequence[float]]) -> Line:
        """Quantiles of the minutes before, at every moment."""
        return line([self._quantile(share, bounds, pick, age) for age in range(LENGTH - 1, -1, -1)])

    def _rate(self, pick: Pick, age: int) -> float | None:
        sample, before = self._by_age.get(age), self._before(age, _SMOOTHED)
        if sample is None or before is None:
            return None
        return _rise(pick, sample, self._by_age[before]) * _SMOOTHED / (before - age)

    def _quantile(
        self, share: float, bounds: Sequence[float], pick: Callable[[Sample], Sequence[float]], age: int
    ) -> float | None:
        sample, before = self._by_age.get(age), self._before(age, _LATELY)
        if sample is None or before is None:
            return None
        return quantile(share, bounds, _new(pick(sample), pick(self._by_age[before])))

    def _lately(self, share: float, bounds: Sequence[float], pick: Callable[[Sample], Sequence[float]]) -> float | None:
        age, counts = self._age(_LATELY), pick(self._now)
        return quantile(share, bounds, counts if age is None else _new(counts, pick(self._by_age[age])))

    def _age(self, turns: int) -> int | None:
        """The age of the youngest sample that is so old, or else of the oldest."""
        old = [age for age in self._by_age if age >= turns]
        return min(old) if old else max(self._by_age, default=None)

    def _before(self, age: int, turns: int) -> int | None:
        """The age of the sample so many turns before, or of the oldest one after that."""
        return next((known for known in range(age + turns, age, -1) if known in self._by_age), None)


def line(values: Values) -> Line:
    """Values from left to right; where there is none, the line breaks."""
    known = [value for value in values if value is not None]
    most = max(known, default=0.0)
    step, room = WIDTH / (len(values) - 1), HEIGHT - 2 * _ROOM
    pieces: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((round(place * step, 1), round(HEIGHT - _ROOM - value / (most or 1.0) * room, 1)))
    drawn = [piece for piece in pieces if len(piece) > 1]
    path = "".join("M" + "L".join(f"{x} {y}" for x, y in piece) for piece in drawn)
    area = "".join(
        f"M{piece[0][0]} {HEIGHT}L" + "L".join(f"{x} {y}" for x, y in piece) + f"L{piece[-1][0]} {HEIGHT}Z"
        for piece in drawn
    )
    return Line(path, area, most)


def _rise(pick: Pick, now: Sample, before: Sample) -> float:
    return max(0.0, pick(now) - pick(before))


def _new(now: Sequence[float], before: Sequence[float]) -> list[float]:
    return [max(0.0, a - b) for a, b in zip(now, before, strict=True)]
