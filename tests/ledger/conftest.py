"""Ledgers with a database each, whose writer has its turn when the test says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gatewaykit import Attempt, CallRecord, Target, Usage
from gatewaykit.builtin.ledger import LedgerSettings
from gatewaykit.builtin.ledger.ledger import Ledger
from gatewaykit.pricing import PriceBook, PriceSettings
from gatewaykit.storage import Storage, StoredCall
from gatewaykit.storage.tables import UsageDay, UsageHour

from ..storage.conftest import storage, storage_at

__all__ = ["storage", "storage_at"]

BEGAN = 1_790_000_000.123456
TARGET = Target("fake", "m-1")
PRICES = {
    "models": [{"model": "m-1", "input": 1, "output": 4}, {"model": "m-2", "currency": "USD", "input": 1, "output": 1}],
    "rates": {"USD": 90},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An outbox that does not exist yet."""
    return tmp_path / "outbox"


def record(request_id: str = "r", **values: Any) -> CallRecord:
    """A call that was answered, unless it is told otherwise."""
    usual: dict[str, Any] = {"status": 200, "outcome": "done", "seconds": 0.25, "began": BEGAN}
    fixed = {"method": "POST", "path": "/v1/x", "dialect": "openai_chat"}
    return CallRecord(request_id, **{**usual, **fixed, **values})


def answered(request_id: str = "r", tokens: int = 10, **values: Any) -> CallRecord:
    """A call with a target and usage."""
    usual = {"model": "m", "target": TARGET, "attempts": (Attempt(TARGET, 0.1),), "usage": Usage(tokens, tokens)}
    return record(request_id, **{**usual, **values})


def ledger_at(storage: Storage, folder: Path, prices: dict[str, Any] | None = None, **settings: Any) -> Ledger:
    """A ledger that nobody has entered."""
    book = PriceBook(PriceSettings.model_validate(prices or {}))
    return Ledger(storage, LedgerSettings(outbox=folder, **settings), book)


@contextmanager
def opened(storage: Storage, folder: Path, prices: dict[str, Any] | None = None, **settings: Any) -> Iterator[Ledger]:
    """A ledger without a thread: its ``writer.flush()`` is called by the test."""
    ledger = ledger_at(storage, folder, prices, **settings)
    with storage.opened():
        try:
            yield ledger
        finally:
            ledger.outbox.close()


def write(ledger: Ledger, *records: CallRecord) -> None:
    """Seal ``records`` and bring them into the database."""
    for one in records:
        ledger.seal(one)
    ledger.writer.flush()


@contextmanager
def down(storage: Storage) -> Iterator[None]:
    """The database is not to be reached meanwhile."""
    was, storage._open = storage._open, None
    try:
        yield
    finally:
        storage._open = was


def rows(storage: Storage) -> list[StoredCall]:
    """All records, oldest first."""
    with storage.transaction(write=False) as session:
        return list(session.scalars(select(StoredCall).order_by(StoredCall.began, StoredCall.request_id)))


def ids(storage: Storage) -> list[str]:
    """The request ids of all records, sorted."""
    with storage.transaction(write=False) as session:
        return sorted(session.scalars(select(StoredCall.request_id)))


def counted(storage: Storage) -> list[int]:
    """How many calls there are: as records, in the sums by the hour, and by the day."""
    with storage.transaction(write=False) as session:
        whole = [func.count(StoredCall.request_id), func.sum(UsageHour.requests), func.sum(UsageDay.requests)]
        return [int(session.scalar(select(one)) or 0) for one in whole]


def segments(folder: Path) -> list[Path]:
    """The files of an outbox."""
    return sorted(folder.glob("*.log"))


def is_private(path: Path) -> bool:
    """Whether nobody else can read it."""
    return not path.stat().st_mode & 0o077
