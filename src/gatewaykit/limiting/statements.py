"""The statements with which a database counts. Every value in them is a bound parameter.

Whoever waits for a lock takes locks in one order: limits, then holds, then sums, each by name.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Double,
    Insert,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy import cast as as_type
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningDelete

from gatewaykit.storage.tables import StoredHold, StoredSum

TIDY_ROWS = 500
AT_THE_SAME_TIME = -1
"""The number of the one slice of a limit of concurrency."""

_sums = cast(Table, StoredSum.__table__)
_holds = cast(Table, StoredHold.__table__)
_sum, _hold = _sums.c, _holds.c
_now: BindParameter[float] = bindparam("now", type_=Double)
_ends: BindParameter[float] = bindparam("ends", type_=Double)
_by: BindParameter[int] = bindparam("by", type_=BigInteger)

SUMS = select(_sum.limit, _sum.number, _sum.until, _sum.amount).where(
    _sum.limit.in_(bindparam("limits", expanding=True)), _sum.until > _now, _sum.expires > _now
)
"""What counts of ``limits`` at ``now``."""

OVER = select(_hold.taken).where(_hold.expires <= _now)
"""What is held by calls whose lease has ended by ``now``."""

RENEW = update(_holds).where(_hold.hold == bindparam("of_hold"), _hold.expires > _now).values(expires=_ends)
"""Let a hold that still counts live until ``ends``."""

KEEP = (
    update(_sums)
    .where(
        _sum.limit == bindparam("of_limit"),
        _sum.number == AT_THE_SAME_TIME,
        _sum.expires < _ends,
    )
    .values(expires=_ends)
)
"""Keep the row of a limit of concurrency until ``ends``."""

_old = select(*_sums.primary_key).where(_sum.expires <= _now).limit(TIDY_ROWS).with_for_update(skip_locked=True).cte()
TIDY = delete(_sums).where(tuple_(*_sums.primary_key).in_(select(*_old.c))).returning(_sum.number)
"""Delete what has expired, at most :data:`TIDY_ROWS`, and nothing that somebody else has locked. A row for each."""

_clock = as_type(func.extract("epoch", func.clock_timestamp()), Double)
TIME = select(_clock)
"""Unix time of the database, on Postgres."""

_number = func.unnest(bindparam("numbers", type_=postgresql.ARRAY(BigInteger))).column_valued("number")
LOCK = select(func.pg_advisory_xact_lock(_number), _clock)
"""Lock these numbers, one after the other, until the transaction ends, and tell the time; on Postgres."""


@cache
def releasing(dialect: str) -> ReturningDelete[str, str]:
    """End those of ``holds`` that still count at ``now``; what each has taken."""
    return _ending(dialect, skip=False, of=(_hold.hold.in_(bindparam("holds", expanding=True)), _hold.expires > _now))


@cache
def sweeping(dialect: str) -> ReturningDelete[str, str]:
    """End all holds whose lease has ended by ``now``, but for those with which somebody else is busy."""
    return _ending(dialect, skip=True, of=(_hold.expires <= _now,))


def _ending(dialect: str, *, skip: bool, of: tuple[Any, ...]) -> ReturningDelete[str, str]:
    if dialect == "postgresql":
        locked = select(_hold.hold).where(*of).order_by(_hold.hold).with_for_update(skip_locked=skip)
        of = (_hold.hold.in_(locked),)
    return delete(_holds).where(*of).returning(_hold.hold, _hold.taken)


@cache
def adding(dialect: str) -> Insert:
    """Add ``by``, which may be negative, to what is counted in slices; none of them is ever less than nothing."""
    most = func.greatest if dialect == "postgresql" else func.max
    row = _insert(dialect, _sums).values(
        limit=bindparam("of_limit", type_=String),
        number=bindparam("of_number", type_=BigInteger),
        amount=most(0, _by),
        until=_ends,
        expires=bindparam("kept", type_=Double),
    )
    return row.on_conflict_do_update(
        index_elements=[*_sums.primary_key],
        set_={"amount": most(0, _sum.amount + _by), "expires": most(_sum.expires, row.excluded.expires)},
    )


@cache
def seeding(dialect: str) -> Insert:
    """Make rows that are not there yet."""
    return _insert(dialect, _sums).on_conflict_do_nothing()


@cache
def holding(dialect: str) -> Insert:
    """Make holds."""
    row = _insert(dialect, _holds)
    new = {"expires": row.excluded.expires, "taken": row.excluded.taken}
    return row.on_conflict_do_update(index_elements=[_hold.hold], set_=new)


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
