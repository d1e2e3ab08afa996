"""The page and the tests are one: each row has a test, each test a row, and both languages say the same."""

from __future__ import annotations

import re
from pathlib import Path

from .page import rows

HERE = Path(__file__).resolve().parent


def test_every_row_is_executed_and_every_test_is_a_row() -> None:
    """The id of a row is the name of the test that holds the gateway to it."""
    tests = [
        name.replace("_", "-")
        for module in sorted(HERE.glob("test_*.py"))
        if module.name != Path(__file__).name
        for name in re.findall(r"^async def test_(\w+)\(", module.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(tests) == sorted(rows())


def test_both_languages_promise_the_same() -> None:
    """Ids, statuses, times and ``Retry-After`` are equal, row by row and in the same order."""
    assert list(rows("ru").items()) == list(rows("en").items())
