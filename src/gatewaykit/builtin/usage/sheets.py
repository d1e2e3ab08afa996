"""Figures as CSV (RFC 4180), for spreadsheets, which take some texts for formulas: those get an apostrophe in front.

Source of the dangerous beginnings: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

_FORMULAS = frozenset("=+-@＝＋－＠")
_CONTROLS = ("\t", "\r", "\n")


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
    """The rows as text; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cell(value: Any) -> Any:
    """A value as it may stand in a cell; lists are JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | list):
        return msgspec.json.encode(value).decode().strip('"')
    if not isinstance(value, str):
        return value
    visible = next((letter for letter in value if letter.isprintable() and not letter.isspace()), "")
    return f"'{value}" if visible in _FORMULAS or value.startswith(_CONTROLS) else value
