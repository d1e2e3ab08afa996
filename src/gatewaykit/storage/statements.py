"""Statements that SQLite and Postgres have in common, and the language between them has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.dml import Insert


def insert_new(session: Session, model: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert ``rows``, passing over those whose key is already there. All rows have the same columns."""
    if rows:
        session.connection().execute(_insert(model, session.get_bind().dialect.name), rows)


@cache
def _insert(model: type[DeclarativeBase], dialect: str) -> Insert:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(model).on_conflict_do_nothing()
