"""The failure matrix as its page has it: what the tests of this folder hold the gateway to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import httpx

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {"en": DOCS / "failure-matrix.md", "ru": DOCS / "ru" / "failure-matrix.md"}
_YES = {"yes", "да"}

SLACK = 4.0
"""Other work on the machine of the tests makes everything slower: what was promised takes so many times as long."""

HANGS = 60.0
"""Seconds after which an answer counts as one that nobody waits for, whatever else the machine does."""


@dataclass(frozen=True)
class Row:
    """One line of a table: ``statuses`` are those that may be answered; empty where there is no answer.

    ``comes_back`` says that a refusal carries ``Retry-After``. ``seconds`` is the longest time an answer takes, if the
    page promises one.
    """

    id: str
    statuses: frozenset[int]
    comes_back: bool
    seconds: float | None

    def holds(self, *responses: httpx.Response) -> None:
        """Each answer is as the page says.

        The machine may be busy for a moment, and one answer late; who waits for a store is late every time. So the
        quickest of the answers that are given here is held against the promise.
        """
        assert responses
        for response in responses:
            assert response.status_code in self.statuses, f"{self.id}: {response.status_code} {response.text}"
            if response.status_code >= 400:
                assert ("retry-after" in response.headers) == self.comes_back, f"{self.id}: {response.headers}"
                assert int(response.headers.get("retry-after", "1")) >= 1
        elapsed = [response.elapsed.total_seconds() for response in responses]
        assert max(elapsed) < HANGS, f"{self.id}: {elapsed}"
        if self.seconds is not None:
            assert min(elapsed) <= self.seconds * SLACK, f"{self.id}: {elapsed}"


def rows(language: str = "en") -> dict[str, Row]:
    """The rows of all tables whose first cell is an id: ``| `id` | call | status | seconds | Retry-After | … |``."""
    found: dict[str, Row] = {}
    for line in PAGES[language].read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        name = re.fullmatch(r"`([a-z0-9-]+)`", cells[0])
        if not line.startswith("|") or name is None:
            continue
        _, _, answer, longest, retry_after, *_ = cells
        seconds = re.match(r"[\d.,]+", longest)
        row = Row(
            name[1],
            frozenset(int(status) for status in re.findall(r"\b[1-5]\d\d\b", answer)),
            retry_after in _YES,
            float(seconds[0].replace(",", ".")) if seconds else None,
        )
        assert row.id not in found, f"two rows are called {row.id}"
        found[row.id] = row
    return found
