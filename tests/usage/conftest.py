"""Gateways with a database whose figures can be asked for, and rows that are older than any test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, insert

from gatewaykit import Authenticator, Gateway, Incoming, Principal
from gatewaykit.builtin.static_keys import given_key
from gatewaykit.storage import Storage
from gatewaykit.storage.tables import metadata
from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of
from gatewaykit.testing.waiting import within
from gatewaykit.types import ADMIN, INFERENCE

from ..storage.conftest import storage, storage_at

__all__ = ["storage", "storage_at"]

BEGAN = datetime(2026, 9, 21, 10, 30, tzinfo=UTC)
HOUR = BEGAN.replace(minute=0)
PRICES = {
    "models": [
        {"model": "gpt-*", "currency": "USD", "input": 1, "cached": "0.5", "output": 4},
        {"model": "GigaChat*", "package": {"tokens": 1_000_000, "price": 650}},
        {"model": "local", "free": True},
    ],
    "rates": {"USD": 90},
}
PRINCIPALS = {
    "alice": Principal("key_alice", owner="acc_1"),
    "bob": Principal("key_bob", owner="acc_1"),
    "carol": Principal("key_carol"),
    "root": Principal("key_root", scopes=frozenset({ADMIN})),
    "mute": Principal("key_mute", scopes=frozenset({INFERENCE})),
    "%": Principal("%"),
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Postgres is the database, records wait for it in the working directory."""
    monkeypatch.chdir(tmp_path)


class Ring(Authenticator):
    """Knows everybody by name."""

    name = "ring"

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """Whose name the key is."""
        return PRINCIPALS.get(given_key(incoming.headers) or "")


def gateway_at(url: str | None, *providers: FakeProvider) -> Gateway:
    """A gateway with these providers and :data:`PRICES`, which keeps its books there."""
    plugin = plugin_of(providers=providers or [FakeProvider()], authenticators=[Ring()])
    database = {"database": {"url": url}} if url else {}
    return make_gateway(plugin, prices=PRICES, static_keys={}, **database)


@asynccontextmanager
async def asking(url: str | None, *providers: FakeProvider) -> AsyncIterator[Client]:
    """A client of such a gateway."""
    gateway = gateway_at(url, *providers)
    async with gateway_client(gateway) as http:
        yield Client(gateway, http)


class Client:
    """Speaks to a gateway as whoever is named."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.http = http

    async def get(self, who: str, path: str, **parameters: Any) -> httpx.Response:
        """A question; ``from_`` is ``from``."""
        query = {name.rstrip("_"): value for name, value in parameters.items()}
        return await self.http.get(path, params=query, headers=key(who))

    async def ask(self, who: str, path: str, **parameters: Any) -> Any:
        """A question that is answered."""
        answer = await self.get(who, path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def call(self, who: str, model: str, **headers: str) -> None:
        """One call of a model."""
        body = {"model": model, "messages": [{"role": "user", "content": "a secret thought"}]}
        answer = await self.http.post("/v1/chat/completions", json=body, headers={**key(who), **headers})
        assert answer.status_code == 200, answer.text

    async def until(self, who: str, path: str, condition: Callable[[Any], bool], **parameters: Any) -> Any:
        """The first answer that fulfils ``condition``."""
        async with within(20, "the books are written"):
            while not condition(found := await self.ask(who, path, **parameters)):
                pass
        return found


def key(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {who}"}


def record(number: int, **values: Any) -> dict[str, Any]:
    """A row of ``call_records``; each is a second later than the one before."""
    return {
        "request_id": f"call-{number:06d}",
        "began": BEGAN + timedelta(seconds=number),
        "method": "POST",
        "path": "/v1/chat/completions",
        "dialect": "openai_chat",
        "status": 200,
        "outcome": "done",
        "error": None,
        "client": "192.0.2.1",
        "principal": "key_alice",
        "owner": "acc_1",
        "tenant": "key_alice",
        "model": "gpt-5",
        "stream": False,
        "provider": "fake",
        "provider_model": "gpt-5",
        "attempts": [{"target": "fake/gpt-5", "seconds": 0.5, "error": None}],
        "seconds": 0.5,
        "first_event_seconds": None,
        "input_tokens": 10,
        "cached_tokens": 0,
        "output_tokens": 20,
        "reasoning_tokens": 0,
        "estimated": False,
        "cost": 90,
        "currency": "USD",
        "spend": 8100,
        "price_version": "0123456789ab",
        **values,
    }


def sums(begins: datetime = HOUR, **values: Any) -> dict[str, Any]:
    """A row of ``usage_hours`` or ``usage_days``: one call."""
    texts = ("principal", "owner", "model", "provider", "provider_model", "currency")
    numbers = ("refused", "client_gone", "failed", "cached_tokens", "reasoning_tokens", "estimated", "unpriced")
    return {
        "begins": begins,
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(numbers, 0),
        "requests": 1,
        "done": 1,
        "input_tokens": 10,
        "output_tokens": 20,
        "cost": 90,
        "spend": 8100,
        "seconds": 0.5,
        "first_event_seconds": 0.25,
        "first_events": 1,
        **values,
    }


def fill(storage: Storage, table: str, *rows: dict[str, Any]) -> None:
    """Rows that were written at another time."""
    with storage.opened(), storage.transaction() as session:
        session.connection().execute(insert(metadata.tables[table]), list(rows))


def many(connection: Connection, table: str, count: int, **values: str) -> None:
    """Insert ``count`` rows whose columns are SQL of ``i``, from 1."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    into, what = ", ".join(values), ", ".join(values.values())
    connection.exec_driver_sql(f"INSERT INTO {table} ({into}) {numbers} SELECT {what} FROM n")


def moment(connection: Connection, seconds: str) -> str:
    """SQL of the moment so many seconds after :data:`BEGAN`, as the tables keep it."""
    unix = f"{int(BEGAN.timestamp())} + {seconds}"
    if connection.dialect.name == "sqlite":
        return f"strftime('%Y-%m-%d %H:%M:%f000', {unix}, 'unixepoch')"
    return f"to_timestamp({unix})"
