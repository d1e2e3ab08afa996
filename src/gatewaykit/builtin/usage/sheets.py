"""Figures as CSV (RFC 4180), for spreadsheets, which take some texts for formulas: those get an apostrophe in front.

Where the comma is the decimal sign, a semicolon separates cells, and quotes in the middle of what is a cell there
protect nothing: each part of a text that may become a cell of its own is looked at. Source of the dangerous beginnings:
OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

_FORMULAS = frozenset("=+-@＝＋－＠")
_CONTROLS = ("\t", "\r", "\n")
_SEPARATORS = re.compile(r"([;\t\r\n])")


def sheet(name: str, columns: Sequence[str], pages: AsyncIterator[Iterable[Mapping[str, Any]]]) -> Response:
    """A download of ``pages``, sent page by page. It breaks off when one cannot be had: half never looks whole."""
    return StreamingResponse(
        _written(columns, pages),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"content-disposition": f'attachment; filename="{name}.csv"'},
    )


async def _written(columns: Sequence[str], pages: AsyncIterator[Iterable[Mapping[str, Any]]]) -> AsyncIterator[bytes]:
    yield lines([columns])
    async for page in pages:
        yield lines([row[column] for column in columns] for row in page)


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """The rows as text, all but numbers in quotes; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cell(value: Any) -> Any:
    """A value as it may stand in a cell; lists are JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | list):
        value = msgspec.json.encode(value).decode().strip('"')
    if not isinstance(value, str):
        return value
    text = "".join(map(_guarded, _SEPARATORS.split(value)))
    return f"'{text}" if value.startswith(_CONTROLS) else text


def _guarded(part: str) -> str:
    visible = next((letter for letter in part if letter.isprintable() and not letter.isspace() and letter != '"'), "")
    return f"'{part}" if visible in _FORMULAS else part
