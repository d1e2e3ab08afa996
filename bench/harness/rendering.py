"""A run's report as text for a terminal and as Markdown for the documentation."""

from __future__ import annotations

import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .processes import CORES
from .report import tables_of
from .results import Results
from .table import Table

DISTURBED_SHARE = 0.05


def as_text(results: Results) -> str:
    """Aligned columns."""
    return _document(results, lambda title: f"\n{title}\n{'=' * len(title)}", _aligned)


def as_markdown(results: Results) -> str:
    """Headings of the second level and pipe tables."""
    return _document(results, lambda title: f"\n## {title}\n", _piped)


def _document(results: Results, heading: Callable[[str], str], grid: Callable[[Table], list[str]]) -> str:
    tables = tables_of(results)
    lines = [machine(), quietness(results)]
    for table in tables:
        lines += [heading(table.title), table.note, "", *grid(table)]
    lines += [heading("Goals"), *_goals(tables, disturbed(results))]
    for title, found in (
        ("Subjects without figures", _failures(results)),
        ("Remarks", list(dict.fromkeys(results.remarks))),
    ):
        lines += [heading(title), *(f"- {line}" for line in found)] if found else []
    return "\n".join(lines) + "\n"


def quietness(results: Results) -> str:
    """One line on how much other work disturbed the run."""
    share = results.other_share()
    if share is None:
        return "Other work on the machine was not measured."
    verdict = " Trust the CPU columns only." if disturbed(results) else ""
    return f"Other work took {share:.0%} of the machine's CPU (median over the measurements).{verdict}"


def disturbed(results: Results) -> bool:
    """Whether other work was large enough to spoil times and requests per second."""
    share = results.other_share()
    return share is not None and share >= DISTURBED_SHARE


def machine() -> str:
    """One line about the machine and the day."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{day}, {len(CORES)} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}."


def _failures(results: Results) -> list[str]:
    """One line for each subject and reason, with the scenarios that it concerns."""
    where: dict[tuple[str, str], list[str]] = {}
    for (scenario, name), why in results.failures.items():
        where.setdefault((name, why), []).append(scenario)
    return [f"{name} ({', '.join(scenarios)}): {why}" for (name, why), scenarios in where.items()]


def _goals(tables: list[Table], spoiled: bool) -> list[str]:
    held = [goal for table in tables for goal in table.goals]
    if not held:
        return ["No goal was measured."]
    missed = [f"- missed: {g.what} is {g.value:.2f}{g.unit}, goal {g.short()}" for g in held if not g.met]
    doubt = " Not a verdict: only those on CPU and memory hold on a machine this busy." if spoiled else ""
    return [f"{len(held) - len(missed)} of {len(held)} met.{doubt}", *missed]


def _aligned(table: Table) -> list[str]:
    grid = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(table.columns))]
    text = {i for i, name in enumerate(table.columns) if name in ("subject", "goal", "what", "cost of", "")}
    lines = [
        "  ".join(
            cell.ljust(w) if i in text else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in grid
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *(line.rstrip() for line in lines[1:])]


def _piped(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return ["| " + " | ".join(row) + " |" for row in rows]
