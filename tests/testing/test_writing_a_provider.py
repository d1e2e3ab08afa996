"""The tutorial for provider authors shows the example as it is, and all its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/writing-a-provider.md"
EXAMPLE = ROOT / "examples/provider_in_40_lines"
_SHOWN = re.compile(r"<!-- example: (\S+)(?: ([^ \n]+))? -->\n```\w+\n(.*?)```\n", re.DOTALL)


def shown_of(file: str, table: str) -> str:
    """What the page shows of an example's file: all of it, or one table."""
    source = (EXAMPLE / file).read_text()
    if not table:
        return source
    return f"{table}\n{source.split(table, 1)[1].split('[', 1)[0].strip()}\n"


def test_page_shows_the_example_as_it_is() -> None:
    """Code that stands in the example's files and on the page is the same."""
    shown = _SHOWN.findall(PAGE.read_text())
    assert len(shown) == 3
    for file, table, code in shown:
        assert code == shown_of(file, table), f"put this into the page:\n{shown_of(file, table)}"


def test_code_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of Python, one after the other, as a reader would try them."""
    monkeypatch.syspath_prepend(EXAMPLE)
    document = Sybil(parsers=[PythonCodeBlockParser()], patterns=["*.md"]).parse(PAGE)
    examples = list(document.examples())
    assert len(examples) >= 9
    for example in examples:
        example.evaluate()


def test_links_of_the_page_lead_somewhere() -> None:
    """Files that the page links to exist."""
    links = re.findall(r"\]\((?!https?://)([^)#]+)", PAGE.read_text())
    assert links
    assert not [link for link in links if not (PAGE.parent / link).exists()]
