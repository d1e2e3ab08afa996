"""What is old is deleted: little by little, and by one process at a time."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import cast

from sqlalchemy import CursorResult, Table, delete, func, select, tuple_

from gatewaykit.builtin.ledger.settings import LedgerSettings
from gatewaykit.storage import Storage, StoredCall
from gatewaykit.storage.tables import UsageDay, UsageHour

logger = logging.getLogger(__name__)
ADVISORY_LOCK = 0x6C6564676572
"""Key of the lock under which rows are deleted on Postgres: the word "ledger". SQLite has one writer anyway."""

_AT_ONCE = 1000
_FIRST, _BETWEEN = 60.0, 3600.0


class Retention:
    """Deletes rows whose time is over: a bounded number in each :meth:`step`, once an hour until none is left.

    Sums outlive the records they were made of. ``deleted`` counts rows.
    """

    def __init__(self, storage: Storage, settings: LedgerSettings, *, first: float = _FIRST) -> None:
        self._storage = storage
        self._days = [
            (cast("Table", model.__table__), column, days)
            for model, column, days in (
                (StoredCall, "began", settings.keep_records),
                (UsageHour, "begins", settings.keep_hours),
                (UsageDay, "begins", settings.keep_days),
            )
            if days
        ]
        self._next = time.monotonic() + first
        self.deleted = 0

    @property
    def due(self) -> bool:
        """Whether there may be something to do."""
        return time.monotonic() >= self._next

    def step(self) -> bool:
        """Delete some; whether there may be more. Raises :class:`~gatewaykit.errors.GatewayError`."""
        for table, column, days in self._days:
            oldest = datetime.now(UTC) - timedelta(days=days)
            if (deleted := self._delete(table, column, oldest)) is None:
                break
            self.deleted += deleted
            if deleted == _AT_ONCE:
                return True
        self._next = time.monotonic() + _BETWEEN
        return False

    def rest(self) -> None:
        """Something is wrong: not again for a while."""
        self._next = time.monotonic() + _FIRST

    def _delete(self, table: Table, column: str, oldest: datetime) -> int | None:
        """How many are gone; None if another process is about it."""
        key = tuple_(*table.primary_key.columns)
        old = select(*table.primary_key.columns).where(table.c[column] < oldest).limit(_AT_ONCE)
        with self._storage.transaction() as session:
            connection = session.connection()
            if connection.dialect.name == "postgresql" and not connection.scalar(
                select(func.pg_try_advisory_xact_lock(ADVISORY_LOCK))
            ):
                return None
            return cast("CursorResult[tuple[()]]", connection.execute(delete(table).where(key.in_(old)))).rowcount
