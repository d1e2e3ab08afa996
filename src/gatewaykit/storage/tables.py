"""The core's tables, and what all tables share: names of constraints, and times in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Double, Index, MetaData, String
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def new_metadata() -> MetaData:
    """Metadata whose constraints all have names: a later migration can only change what it can name."""
    return MetaData(naming_convention=_NAMES)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: time zones are converted to UTC on the way in, and UTC is what comes out. Naive times are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is UTC:
            return value
        if value.tzinfo is None:
            raise ValueError("a time without a zone is not a moment")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of the core's models."""

    metadata = new_metadata()
    type_annotation_map = {int: BigInteger, float: Double, str: String, datetime: UtcDateTime}  # noqa: RUF012 - as SQLAlchemy documents it


class StoredCall(Base):
    """One call, as :class:`~gatewaykit.types.CallRecord` tells it. ``attempts``: target, seconds and error of each.

    The clients' own request ids may repeat: only id and time together are one call.
    """

    __tablename__ = "call_records"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    began: Mapped[datetime] = mapped_column(primary_key=True)
    method: Mapped[str]
    path: Mapped[str]
    dialect: Mapped[str]
    status: Mapped[int]
    outcome: Mapped[str]
    error: Mapped[str | None]
    client: Mapped[str | None]
    principal: Mapped[str | None]
    tenant: Mapped[str | None]
    model: Mapped[str | None]
    stream: Mapped[bool]
    provider: Mapped[str | None]
    provider_model: Mapped[str | None]
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    seconds: Mapped[float]
    first_event_seconds: Mapped[float | None]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    reasoning_tokens: Mapped[int | None]
    estimated: Mapped[bool | None]

    __table_args__ = (
        Index("ix_call_records_began", "began"),
        Index("ix_call_records_principal_began", "principal", "began"),
    )


metadata = Base.metadata
"""All tables of the core."""
