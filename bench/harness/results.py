"""What was measured: samples by scenario, variant, subject and round, and their medians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from .subjects import REFERENCE, Subject

Values = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """One measurement of one subject in one round."""

    scenario: str
    variant: str
    subject: str
    round: int
    values: Values


@dataclass
class Results:
    """All samples of a run, who failed, and what looked wrong."""

    subjects: list[Subject]
    samples: list[Sample] = field(default_factory=list)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)  # by scenario and subject
    remarks: list[str] = field(default_factory=list)

    def add(self, scenario: str, variant: str, subject: str, turn: int, values: Values) -> None:
        """Keeps one sample."""
        self.samples.append(Sample(scenario, variant, subject, turn, values))

    def fail(self, scenario: str, subject: str, why: str) -> None:
        """Keeps why a subject has no further figures in a scenario."""
        self.failures[scenario, subject] = why

    def variants(self, scenario: str) -> list[str]:
        """The scenario's variants in the order in which they were measured."""
        return list(dict.fromkeys(s.variant for s in self.samples if s.scenario == scenario))

    def rounds(self, scenario: str, variant: str, subject: str) -> dict[int, Values]:
        """The subject's values by round."""
        wanted = (scenario, variant, subject)
        return {s.round: s.values for s in self.samples if (s.scenario, s.variant, s.subject) == wanted}

    def median(self, scenario: str, variant: str, subject: str, key: str) -> float | None:
        """The median of a value over the rounds; None when it was not measured."""
        found = [values[key] for values in self.rounds(scenario, variant, subject).values() if key in values]
        return median(found) if found else None

    def other_share(self) -> float | None:
        """The median part of the machine's CPU that other work took during the measurements."""
        found = [sample.values["other_share"] for sample in self.samples if "other_share" in sample.values]
        return median(found) if found else None

    def ratio(self, scenario: str, variant: str, subject: str, key: str, base: str = REFERENCE) -> float | None:
        """The median of the ratios subject ÷ base, each of one round."""
        return self._paired(scenario, variant, subject, key, base, lambda mine, theirs: mine / theirs)

    def added(self, scenario: str, variant: str, subject: str, key: str, base: str) -> float | None:
        """The median of the differences subject − base, each of one round."""
        return self._paired(scenario, variant, subject, key, base, lambda mine, theirs: mine - theirs)

    def _paired(
        self,
        scenario: str,
        variant: str,
        subject: str,
        key: str,
        base: str,
        relate: Callable[[float, float], float],
    ) -> float | None:
        pairs = self._pairs(scenario, variant, subject, key, base, relate)
        return median(pairs) if pairs else None

    def spread(self, scenario: str, variant: str, subject: str, key: str, base: str) -> list[float]:
        """The lowest and the highest of the ratios subject ÷ base, each of one round; empty when there are none."""
        pairs = self._pairs(scenario, variant, subject, key, base, lambda mine, theirs: mine / theirs)
        return [min(pairs), max(pairs)] if pairs else []

    def _pairs(
        self,
        scenario: str,
        variant: str,
        subject: str,
        key: str,
        base: str,
        relate: Callable[[float, float], float],
    ) -> list[float]:
        mine, theirs = self.rounds(scenario, variant, subject), self.rounds(scenario, variant, base)
        return [
            relate(values[key], theirs[turn][key])
            for turn, values in mine.items()
            if key in values and theirs.get(turn, {}).get(key)
        ]
