"""On which line of a TOML document each key stands: what tomllib knows while it parses, and does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]
"""Keys from the root down; an ``int`` is an index into an array."""

_FILL = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_VALUE = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})'''
    r"""|\'\'\'.*?\'\'\'(?:\'{0,2})"""
    r"""|"(?:\\.|[^"\\])*"|'[^']*'|[^,\]}#\n]+""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every key, table and array entry of ``text``, which tomllib has accepted; newlines are ``\\n``.

    A table named by a header stands on that header's line; one that exists only as part of longer keys stands where it
    is first mentioned. Nested at most as deep as tomllib itself can go.
    """
    return _Scanner(text).scan()


class _Scanner:
    """A cursor over the text; ``lines`` grows as keys are met."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.lines: dict[KeyPath, int] = {}
        self.array_length: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._fill() < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._header(2, of_array=True)
            elif self.text[self.at] == "[":
                table = self._header(1, of_array=False)
            else:
                self._pair(table)
        return self.lines

    def _fill(self) -> int:
        """Passes over white space, newlines and comments."""
        self.at = self._end(_FILL)
        return self.at

    def _end(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.at)
        return match.end() if match else self.at + 1

    def _line(self, position: int) -> int:
        return bisect_right(self.starts, position)

    def _header(self, brackets: int, *, of_array: bool) -> KeyPath:
        line = self._line(self.at)
        self.at += brackets
        *parents, last = self._key()
        self.at += brackets
        path: KeyPath = ()
        for name in parents:
            path = self._inside((*path, name))
            self.lines.setdefault(path, line)
        path = (*path, last)
        if of_array:
            self.lines.setdefault(path, line)
            self.array_length[path] = self.array_length.get(path, 0) + 1
            path = self._inside(path)
        self.lines[path] = line
        return path

    def _inside(self, path: KeyPath) -> KeyPath:
        """The newest entry, if ``path`` is an array of tables: that is the one which later headers speak of."""
        length = self.array_length.get(path)
        return path if length is None else (*path, length - 1)

    def _key(self) -> list[str]:
        """A dotted key; leaves the cursor on what follows it."""
        names: list[str] = []
        while True:
            self.at = self._end(_BLANK)
            start, self.at = self.at, self._end(_KEY)
            names.append(_plain(self.text[start : self.at]))
            self.at = self._end(_BLANK)
            if not self.text.startswith(".", self.at):
                return names
            self.at += 1

    def _pair(self, table: KeyPath) -> None:
        line = self._line(self.at)
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self.at += 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._fill()
        opening = self.text[self.at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self.at = self._end(_VALUE)

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self.text[self._fill()] != "]":
            self.lines[(*path, index)] = self._line(self.at)
            self._value((*path, index))
            index += 1
            self._comma()
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self.text[self._fill()] != "}":
            self._pair(path)
            self._comma()
        self.at += 1

    def _comma(self) -> None:
        if self.text[self._fill()] == ",":
            self.at += 1


def _plain(key: str) -> str:
    """The key that a bare or quoted spelling stands for."""
    return next(iter(tomllib.loads(f"{key}=0"))) if key[0] in "\"'" else key
