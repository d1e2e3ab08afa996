"""A table of the report, and how numbers stand in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .goals import Goal

MS = 1e-3
MB = 1e-6
KB = 1e-3


@dataclass
class Table:
    """A heading, a sentence on how to read it, and rows of text."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def add(self, cells: list[str], *held: Goal | None) -> None:
        """A row; the goals that apply to it stand in its last column."""
        found = [goal for goal in held if goal is not None]
        self.goals.extend(found)
        self.rows.append([*cells, "; ".join(goal.short() for goal in found)])


def shown(value: float | None, digits: int = 0, scale: float = 1.0) -> str:
    """A number for a cell, or a dash when it was not measured."""
    return "–" if value is None else f"{value * scale:,.{digits}f}".replace(",", " ")
