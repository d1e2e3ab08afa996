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

    The clients' own request ids may repeat: only id and time together are one call. ``cost`` is in micro-units of
    ``currency``, ``spend`` in those of the currency of accounting, by the price list ``price_version``; they are NULL
    where nothing was used or its price is not known.
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
    owner: Mapped[str | None]
    cost: Mapped[int | None]
    currency: Mapped[str | None]
    spend: Mapped[int | None]
    price_version: Mapped[str | None]

    __table_args__ = (
        Index("ix_call_records_began", "began"),
        Index("ix_call_records_principal_began", "principal", "began"),
        Index("ix_call_records_owner_began", "owner", "began"),
        Index("ix_call_records_model_began", "model", "began"),
    )


class UsageColumns:
    """Sums over calls that began within an hour or a day from ``begins``, for each combination of the texts.

    A text is empty where a call has none. ``model`` is what was asked for, and empty for a call that no target
    answered: else clients could make as many rows as they know words. ``requests`` is the sum of ``done``,
    ``refused`` (by a filter too), ``client_gone`` and ``failed`` (by the provider, by a time limit, by a defect).
    ``estimated`` are calls whose usage the gateway counted itself, ``unpriced`` those with usage and no known price.
    """

    begins: Mapped[datetime] = mapped_column(primary_key=True)
    principal: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    provider_model: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int]
    done: Mapped[int]
    refused: Mapped[int]
    client_gone: Mapped[int]
    failed: Mapped[int]
    input_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    estimated: Mapped[int]
    unpriced: Mapped[int]
    cost: Mapped[int]
    spend: Mapped[int]
    seconds: Mapped[float]
    first_event_seconds: Mapped[float]
    first_events: Mapped[int]


class UsageHour(UsageColumns, Base):
    """Usage by hours, in UTC."""

    __tablename__ = "usage_hours"

    __table_args__ = (Index("ix_usage_hours_principal_begins", "principal", "begins"),)


class UsageDay(UsageColumns, Base):
    """Usage by days, in UTC: what budgets are counted from."""

    __tablename__ = "usage_days"

    __table_args__ = (
        Index("ix_usage_days_principal_begins", "principal", "begins"),
        Index("ix_usage_days_owner_begins", "owner", "begins"),
        Index("ix_usage_days_model_begins", "model", "begins"),
    )


class StoredPriceList(Base):
    """A price list that has been in force, as :attr:`gatewaykit.pricing.PriceBook.document` has it."""

    __tablename__ = "price_lists"

    version: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime]
    currency: Mapped[str]
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class StoredSum(Base):
    """What counts of a limit until ``until``, in unix time: what was used in one slice of time, and what is held.

    ``limit`` is :attr:`~gatewaykit.limits.Limit.key`, ``number`` that of the slice. Of a calendar period there is a row
    once it is seeded. A row may go when it ``expires``: with its slice, and what calls hold without one with the last
    of their leases.
    """

    __tablename__ = "limit_sums"

    limit: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    until: Mapped[float]
    expires: Mapped[float]

    __table_args__ = (Index("ix_limit_sums_expires", "expires"),)


class StoredHold(Base):
    """What a call has ``taken`` that is to be settled, as JSON: of each limit its key, number, amount and until.

    When its lease ``expires``, in unix time, it is given back.
    """

    __tablename__ = "limit_holds"

    hold: Mapped[str] = mapped_column(primary_key=True)
    expires: Mapped[float]
    taken: Mapped[str]

    __table_args__ = (Index("ix_limit_holds_expires", "expires"),)


class StoredIdentity(Base):
    """The one row that tells this database from all others: see :func:`gatewaykit.storage.identity.identity`."""

    __tablename__ = "database_identity"

    id: Mapped[str] = mapped_column(primary_key=True)


metadata = Base.metadata
"""All tables of the core."""
