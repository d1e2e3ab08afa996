"""What the commands print: marks and colours for people, JSON for programs, and nothing that a terminal cannot show."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from gatewaykit.errors import ConfigFault
from gatewaykit.logs import no_colours

_PLAIN = {"✓": "+", "✗": "x", "–": "-", "…": "...", "→": "->"}
_ERRORS = "gatewaykit.plain"
_INDENT = "    "
_INVISIBLE = re.compile(r"[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What ``json.dumps`` lets pass and a terminal may obey: control characters, and those that turn the direction."""

_WIDEST, _NARROWEST = 80, 30


def prepare_streams() -> None:
    """Let no character that the terminal's encoding lacks break a command."""
    codecs.register_error(_ERRORS, _in_plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


def colour_wanted() -> bool | None:
    """False for none; None lets the stream decide: colours on a terminal only."""
    return False if no_colours() else None


def good(text: str) -> None:
    """All is well."""
    click.echo(f"{click.style('✓', fg='green')} {text}")


def note(text: str, *, err: bool = False) -> None:
    """Worth knowing, and no fault."""
    click.echo(f"{click.style('–', fg='yellow')} {text}", err=err)


def bad(text: str) -> None:
    """An error, on standard error."""
    click.echo(f"{click.style('✗', fg='red')} {text}", err=True)


def in_order(faults: Iterable[ConfigFault]) -> list[ConfigFault]:
    """Those of files first, line by line."""

    def place(fault: ConfigFault) -> tuple[bool, str, int]:
        file, _, line = fault.where.rpartition(":")
        return (False, file, int(line)) if file and line.isdecimal() else (True, "", 0)

    return sorted(faults, key=place)


def tell_faults(faults: Sequence[ConfigFault]) -> None:
    """Each fault with its place, on standard error."""
    for fault in in_order(faults):
        bad(f"{click.style(fault.where, bold=True)}: {fault.message}")
    if len(faults) > 1:
        click.secho(f"{len(faults)} faults", err=True, dim=True)


def print_json(document: Any) -> None:
    """JSON that arrives whole in any encoding, and that no terminal takes for anything but text."""
    is_utf8 = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    text = json.dumps(document, ensure_ascii=not is_utf8, indent=2)
    click.echo(_INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text))


def print_table(rows: Iterable[Sequence[str]], padded: int) -> None:
    """Rows with their first ``padded`` cells aligned; a row that is too long for the terminal goes over several lines.

    Into a file or a pipe every row is one line. Cells may be styled.
    """
    table = [list(row) for row in rows]
    widths = [max((_length(row[column]) for row in table), default=0) for column in range(padded)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
    for row in table:
        cells = [cell + " " * (width - _length(cell)) for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, *row[padded:]]).rstrip()
        if room is None or _length(line) <= room:
            click.echo(line)
        else:
            click.echo("\n".join([row[0], *(_INDENT + cell for cell in row[1:] if cell)]))


def _length(text: str) -> int:
    return len(click.unstyle(text))


class Formatter(click.HelpFormatter):
    """Help with headings that stand out on a terminal, and that fits narrow ones too."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        room = min(shutil.get_terminal_size().columns, max_width or _WIDEST) - 1
        super().__init__(indent_increment, width or max(room, _NARROWEST), max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """A list of terms, in a column of at most half the width, and what they mean."""
        super().write_dl(rows, min(col_max, self.width // 2), col_spacing)

    def write_heading(self, heading: str) -> None:
        """One heading."""
        self.write(f"{'':>{self.current_indent}}{click.style(f'{heading}:', bold=True)}\n")
