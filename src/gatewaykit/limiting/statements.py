"""The statements with which a database counts. Every value in them is a bound parameter."""

from __future__ import annotations

from functools import cache
from typing import cast

from sqlalchemy import BigInteger, BindParameter, Double, Insert, Table, bindparam, delete, func, select, tuple_, update
from sqlalchemy import cast as as_type
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningDelete

from gatewaykit.storage.tables import StoredCount

TIDY_ROWS = 500

_table = cast(Table, StoredCount.__table__)
_row = _table.c
_now = bindparam("now", type_=Double)
_limits: BindParameter[str] = bindparam("limits", expanding=True)
_counts = (_row.until > _now, _row.expires > _now)

COUNTS = (
    select(_row.limit, _row.until, as_type(func.sum(_row.amount), BigInteger))
    .where(_row.limit.in_(_limits), *_counts)
    .group_by(_row.limit, _row.until)
)
"""What counts of ``limits`` at ``now``: limit, until when, how much."""

_of_holds = tuple_(_row.limit, _row.hold)
_held = (_of_holds.in_(bindparam("pairs", expanding=True)), *_counts)

RENEW = (
    update(_table)
    .where(_row.limit == bindparam("of_limit"), _row.hold == bindparam("of_hold"), *_counts)
    .values(expires=bindparam("ends", type_=Double))
)
"""Let a hold that still counts live until ``ends``."""

_old = select(*_table.primary_key).where(_row.expires <= _now).limit(TIDY_ROWS).with_for_update(skip_locked=True).cte()
TIDY = delete(_table).where(tuple_(*_table.primary_key).in_(select(*_old.c))).returning(_row.number)
"""Delete what has expired, at most :data:`TIDY_ROWS`, and nothing that somebody else has locked. A row for each."""

_clock = as_type(func.extract("epoch", func.clock_timestamp()), Double)
TIME = select(_clock)
"""Unix time of the database, on Postgres."""

_number = func.unnest(bindparam("numbers", type_=postgresql.ARRAY(BigInteger))).column_valued("number")
LOCK = select(func.pg_advisory_xact_lock(_number), _clock)
"""Lock these numbers, one after the other, until the transaction ends, and tell the time; on Postgres."""


@cache
def releasing(dialect: str) -> ReturningDelete[str, str, int, float]:
    """End what still counts, for ``pairs`` of limit and hold. On Postgres the rows are locked in that order."""
    ending = delete(_table).where(*_held)
    if dialect == "postgresql":
        locked = select(_row.limit, _row.hold).where(*_held).order_by(_row.limit, _row.hold).with_for_update()
        ending = delete(_table).where(_of_holds.in_(locked))
    return ending.returning(_row.limit, _row.hold, _row.number, _row.until)


@cache
def adding(dialect: str) -> Insert:
    """Add to what is settled in slices, and make holds."""
    insert = _insert(dialect)
    return insert.on_conflict_do_update(
        index_elements=[*_table.primary_key], set_={"amount": _row.amount + insert.excluded.amount}
    )


@cache
def seeding(dialect: str) -> Insert:
    """Make rows that are not there yet."""
    return _insert(dialect).on_conflict_do_nothing()


def _insert(dialect: str) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(_table) if dialect == "postgresql" else sqlite.insert(_table)
