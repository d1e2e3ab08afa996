"""The scanner that tells on which line each key of a TOML document stands."""

from __future__ import annotations

import json
import random
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.settings.lines import KeyPath, key_lines

LETTERS = st.characters(codec="utf-8", exclude_characters="\x7f\r", exclude_categories=["Cs"])
TEXTS = st.text(LETTERS | st.sampled_from("\"'#=[]{},.\\\n\t "), max_size=12)
KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True) | TEXTS
SCALARS = st.booleans() | st.integers(-(10**12), 10**12) | st.floats(-1e9, 1e9) | TEXTS | st.datetimes()
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


class Writer:
    """Writes a document in one of the many ways that TOML allows, and notes the line and spelling of each key."""

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice
        self.text = ""
        self.noted: dict[KeyPath, tuple[int, str]] = {}

    def table(self, table: dict[str, Any], path: KeyPath) -> None:
        later: list[tuple[str, Any]] = []
        for key, value in table.items():
            nested = isinstance(value, dict) or (
                isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
            )
            if nested and self.choice.random() < 0.6:
                later.append((key, value))
            else:
                self.gap()
                self.pair([], key, value, path)
                self.text += self.choice.choice(["\n", " # ] = } \" '''\n"])
        for key, value in later:
            if isinstance(value, dict):
                self.header((*path, key), "[{}]")
                self.table(value, (*path, key))
                continue
            for index, item in enumerate(value):
                self.header((*path, key, index), "[[{}]]")
                self.table(item, (*path, key, index))

    def header(self, path: KeyPath, brackets: str) -> None:
        self.gap()
        spelled = [self.key(key) for key in path if isinstance(key, str)]
        self.note(path, spelled[-1])
        if isinstance(path[-1], int):
            self.noted.setdefault(path[:-1], self.noted[path])
        self.text += brackets.format(self.choice.choice([".", " . "]).join(spelled)) + "\n"

    def pair(self, outer: list[str], key: str, value: Any, path: KeyPath) -> None:
        """``a.b = 1`` for a table with one key, now and then, and ``a = …`` for all else."""
        spelled = self.key(key)
        self.note((*path, key), spelled)
        if isinstance(value, dict) and len(value) == 1 and self.choice.random() < 0.5:
            ((inner, item),) = value.items()
            self.pair([*outer, spelled], inner, item, (*path, key))
            return
        self.text += ".".join([*outer, spelled]) + self.choice.choice(["=", " = "])
        self.value(value, (*path, key))

    def value(self, value: Any, path: KeyPath) -> None:
        if isinstance(value, list):
            self.text += "["
            for index, item in enumerate(value):
                self.text += self.choice.choice(["", "\n", " # , ]\n  "])
                self.value(item, (*path, index))
                self.text += self.choice.choice([",", " ,\n"])
            self.text += "]"
        elif isinstance(value, dict):
            self.text += "{"
            for index, (key, item) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.pair([], key, item, path)
            self.text += " }"
        elif isinstance(value, str):
            self.text += self.string(value)
        elif isinstance(value, bool | int | float):
            self.text += json.dumps(value)
        else:
            self.text += value.isoformat(self.choice.choice([" ", "T"]))

    def string(self, value: str) -> str:
        plain = not re.search(r"[\x00-\x08\x0b-\x1f']", value)
        ways = [json.dumps(value, ensure_ascii=False)]
        ways.append('"""\n' + ways[0][1:-1].replace("\\\\", "\\u005c").replace("\\n", "\n") + '"""')
        if plain:
            ways.append(f"'''\n{value}'''")
        if plain and "\n" not in value:
            ways.append(f"'{value}'")
        return self.choice.choice(ways)

    def key(self, key: str) -> str:
        ways = [json.dumps(key, ensure_ascii=False)]
        if re.fullmatch(r"[A-Za-z0-9_-]+", key):
            ways.append(key)
        if not re.search(r"[\x00-\x08\x0a-\x1f']", key):
            ways.append(f"'{key}'")
        return self.choice.choice(ways)

    def note(self, path: KeyPath, spelled: str) -> None:
        self.noted[path] = (self.text.count("\n") + 1, spelled)

    def gap(self) -> None:
        self.text += self.choice.choice(["", "\n", "# [x]\n", "  "])


def paths_of(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(found for key, item in items for found in paths_of(item, (*path, key)))]


@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_every_path_that_tomllib_yields_gets_the_line_on_which_its_key_was_written(
    document: dict[str, Any], choice: random.Random
) -> None:
    """Whatever the spelling, each path of the parsed document has a line, and the key stands on that line."""
    writer = Writer(choice)
    writer.table(document, ())
    assert tomllib.loads(writer.text) == document
    lines = key_lines(writer.text)
    rows = writer.text.split("\n")
    assert sorted(map(repr, lines)) == sorted(map(repr, paths_of(document)))
    for path, (line, spelled) in writer.noted.items():
        assert lines[path] == line, path
        assert spelled in rows[line - 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b.c = 1\na.d = 2", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "d"): 2}),
        ("[a.b]\n[a]\nx = 1", {("a",): 2, ("a", "b"): 1, ("a", "x"): 3}),
        ('x = """a""""\ny = 1', {("x",): 1, ("y",): 2}),
        ('x = """""a\n"""""\ny = 1', {("x",): 1, ("y",): 3}),
        ("x = '''''a\n'''''\ny = 1", {("x",): 1, ("y",): 3}),
        ('x = "\\"" # "\ny = 1', {("x",): 1, ("y",): 2}),
        ("x = 1979-05-27 07:32:00 # t\ny = 1", {("x",): 1, ("y",): 2}),
        ("x = [\n  1, # ]\n\n  2,\n]\ny = 1", {("x",): 1, ("x", 0): 2, ("x", 1): 4, ("y",): 6}),
        ("x = {a = 1,b.c = [\n2]}\ny = 1", {
            ("x",): 1, ("x", "a"): 1, ("x", "b"): 1, ("x", "b", "c"): 1, ("x", "b", "c", 0): 2, ("y",): 3,
        }),
        ("[[a]]\nx = 1\n[[a]]\n[a.b]\n[[a.c]]", {
            ("a",): 1, ("a", 0): 1, ("a", 0, "x"): 2, ("a", 1): 3, ("a", 1, "b"): 4, ("a", 1, "c"): 5,
            ("a", 1, "c", 0): 5,
        }),
        ('[ "a.b" . \'c\' ]\n"" = 1', {("a.b",): 1, ("a.b", "c"): 1, ("a.b", "c", ""): 2}),
        ("", {}),
        ("# only", {}),
    ],
)  # fmt: skip
def test_lines_of_documents_that_are_hard_to_scan(text: str, expected: dict[KeyPath, int]) -> None:
    """Quotes at the end of strings, dates with a space, arrays over lines, inline tables and implied tables."""
    tomllib.loads(text)
    assert key_lines(text) == expected
