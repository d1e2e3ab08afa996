"""The books in the database: records, and the sums over them, always changed together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import Connection, Table, select
from sqlalchemy.orm import Session

from gatewaykit.builtin.ledger.rows import MOST_MONEY, Entry, Row, Totals, by_day, by_hour
from gatewaykit.builtin.ledger.statements import add, as_json, as_moment, insert
from gatewaykit.pricing import Cost, PriceBook, PriceSettings
from gatewaykit.storage import Storage, StoredCall, insert_new
from gatewaykit.storage.tables import StoredPriceList, UsageDay, UsageHour
from gatewaykit.types import Target, Usage

logger = logging.getLogger(__name__)
_CALLS, _HOURS, _DAYS = (cast("Table", model.__table__) for model in (StoredCall, UsageHour, UsageDay))


class Books:
    """Writes calls into the database, with what they cost by the price list of their time.

    ``duplicates`` counts calls that were there already.
    """

    def __init__(self, storage: Storage, prices: PriceBook) -> None:
        self._storage = storage
        self._prices = prices
        self._lists: dict[str, PriceBook | None] = {prices.version: prices}
        self._is_listed = not prices.version
        self.duplicates = 0

    def open(self) -> None:
        """Keep the price list in force, for records name it; harmless when that has been done.

        Raises :class:`~gatewaykit.errors.GatewayError`.
        """
        if self._is_listed:
            return
        prices = self._prices
        row = {
            "version": prices.version,
            "created": datetime.now(UTC),
            "currency": prices.currency,
            "document": prices.document,
        }
        with self._storage.transaction() as session:
            insert_new(session, StoredPriceList, [row])
        self._is_listed = True

    def write(self, entries: Sequence[Entry]) -> int:
        """Write calls and count them, each once, however often it is handed in; how many were new.

        Raises :class:`~gatewaykit.errors.GatewayError`; then none is written.
        """
        with self._storage.transaction() as session:
            rows = [Row(entry, self._cost(session, entry)) for entry in entries]
            connection = session.connection()
            if insert(connection, _CALLS, [_values(connection, row) for row in rows]) == len(rows):
                _count(connection, rows)
                return len(rows)
            session.rollback()
            new = [row for row in rows if _is_new(session.connection(), row)]
            _count(session.connection(), new)
        self.duplicates += len(rows) - len(new)
        return len(new)

    def _cost(self, session: Session, entry: Entry) -> Cost | None:
        """None without usage, and where the price is not known."""
        version, given = entry.price_version, entry.input_tokens
        if version is None or given is None or entry.provider is None:
            return None
        if version not in self._lists:
            self._lists[version] = _price_list(session, version)
        book = self._lists[version]
        if book is None:
            return None
        usage = Usage(given, entry.output_tokens or 0, entry.cached_tokens or 0, entry.reasoning_tokens or 0)
        cost = book.cost(_target(entry.provider, entry.provider_model or ""), usage)
        if cost is not None and (cost.amount > MOST_MONEY or cost.spend > MOST_MONEY):
            return Cost(min(cost.amount, MOST_MONEY), cost.currency, min(cost.spend, MOST_MONEY))
        return cost


@lru_cache(maxsize=1024)
def _target(provider: str, model: str) -> Target:
    return Target(provider, model)


def _price_list(session: Session, version: str) -> PriceBook | None:
    """A list that was in force before this process began; None if it is not there, or a newer gateway wrote it."""
    document = session.scalar(select(StoredPriceList.document).where(StoredPriceList.version == version))
    if document is None:
        return None
    try:
        return PriceBook(PriceSettings.model_validate(document))
    except ValidationError:
        logger.error("the price list %s cannot be read by this version: its calls are of unknown cost", version)
        return None


def _is_new(connection: Connection, row: Row) -> bool:
    """Insert one row; False if this call is there already.

    Clients may give many calls one id, and two workers may begin two of them in the same microsecond: another call
    under the same key, one that took another time, moves this one on by a microsecond.
    """
    table = _CALLS.c
    while not insert(connection, _CALLS, [_values(connection, row)]):
        began = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row.began)
        known = select(table.seconds).where(table.request_id == row.entry.request_id, table.began == began)
        if connection.scalar(known) == row.entry.seconds:
            return False
        row.began += 1
    return True


def _count(connection: Connection, rows: Sequence[Row]) -> None:
    """Add new calls to the sums."""
    hours = by_hour(rows)
    _add(connection, _HOURS, hours)
    _add(connection, _DAYS, by_day(hours))


def _add(connection: Connection, table: Table, totals: Totals) -> None:
    """In the order of their keys: two processes that do so at once never wait for each other in a circle."""
    rows = [(as_moment(connection, key[0]), *key[1:], *totals[key]) for key in sorted(totals)]
    add(connection, table, rows)


def _values(connection: Connection, row: Row) -> tuple[Any, ...]:
    """In the order of the table's columns."""
    entry, cost = row.entry, row.cost
    return (
        entry.request_id,
        as_moment(connection, row.began),
        entry.method,
        entry.path,
        entry.dialect,
        entry.status,
        entry.outcome,
        entry.error,
        entry.client,
        entry.principal,
        entry.tenant,
        entry.model,
        entry.stream,
        entry.provider,
        entry.provider_model,
        as_json(connection, entry.attempts),
        entry.seconds,
        entry.first_event_seconds,
        entry.input_tokens,
        entry.output_tokens,
        entry.cached_tokens,
        entry.reasoning_tokens,
        entry.estimated,
        entry.owner,
        *(_UNPRICED if cost is None else (cost.amount, cost.currency, cost.spend)),
        entry.price_version,
    )


_UNPRICED = (None, None, None)
