"""How many rows go into a table quickly: on SQLite one statement for each, on Postgres one JSON document for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_to_json = msgspec.json.Encoder().encode
_postgres = postgresql.dialect()  # type: ignore[no-untyped-call]


def insert(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert ``rows``, all columns in order, but for those whose key is there; how many were inserted."""
    return _run(connection, _into(connection.dialect.name, table) + " ON CONFLICT DO NOTHING", rows)


def add(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert ``rows``; where the key is there, all other columns are added to those of the row that is there."""
    _run(connection, _adding(connection.dialect.name, table), rows)


def as_moment(connection: Connection, microseconds: int) -> Any:
    """A moment of unix time for a row of :func:`insert`."""
    if connection.dialect.name != "sqlite":
        return _EPOCH + timedelta(microseconds=microseconds)
    return f"{_as_text(microseconds // _SECOND)}.{microseconds % _SECOND:06d}"


def as_json(connection: Connection, document: msgspec.Raw) -> Any:
    """A JSON document for a row of :func:`insert`."""
    return bytes(document).decode() if connection.dialect.name == "sqlite" else document


def _run(connection: Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    if not rows:
        return 0
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(sql, list(rows)).rowcount
    return connection.exec_driver_sql(sql, (_to_json(rows).decode(),)).rowcount


@lru_cache
def _as_text(seconds: int) -> str:
    """As SQLAlchemy stores it in SQLite, without the fraction."""
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")


@lru_cache
def _into(dialect: str, table: Table) -> str:
    columns = list(table.columns)
    names = ", ".join(column.name for column in columns)
    if dialect == "sqlite":
        return f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our names
    types = [column.type.compile(_postgres) for column in columns]
    values = ", ".join(f"CAST(row ->> {place} AS {kind})" for place, kind in enumerate(types))
    return f"INSERT INTO {table.name} ({names}) SELECT {values} FROM jsonb_array_elements(%s) AS rows (row)"  # noqa: S608


@lru_cache
def _adding(dialect: str, table: Table) -> str:
    key = [column.name for column in table.primary_key.columns]
    sums = [column.name for column in table.columns if column.name not in key]
    changes = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in sums)
    return f"{_into(dialect, table)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
