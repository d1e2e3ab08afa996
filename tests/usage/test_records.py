"""Single calls: every one once, page by page, whatever is written meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from gatewaykit import Usage
from gatewaykit.builtin.usage.records import COLUMNS
from gatewaykit.storage import Storage
from gatewaykit.storage.tables import metadata
from gatewaykit.testing import FakeProvider

from .conftest import BEGAN, Client, asking, fill, record, storage_at
from .test_figures import provider

RECORDS = "/api/admin/usage/records"


def ids(answer: Any) -> list[str]:
    return [line["request_id"] for line in answer["data"]]


async def pages(client: Client, **question: Any) -> list[list[str]]:
    """All pages, from the first to the last."""
    found = [await client.ask("root", RECORDS, **question)]
    while found[-1]["next"] is not None:
        found.append(await client.ask("root", RECORDS, after=found[-1]["next"], **question))
    return [ids(page) for page in found]


async def test_a_record_tells_all_of_a_call_but_what_was_said(url: str) -> None:
    """Who, what, when, how much and for how much money by which list; not a word of prompt or answer."""
    fake: FakeProvider = provider(Usage(1000, 100, cached_tokens=400, reasoning_tokens=30))
    async with asking(url, fake) as client:
        await client.call("alice", "fake/gpt-5", **{"x-request-id": "mine"})
        found = await client.until("root", RECORDS, lambda answer: answer["data"])
        (line,) = found["data"]
        assert set(line) == set(COLUMNS)
        expected = {
            "request_id": "mine",
            "key": "key_alice",
            "owner": "acc_1",
            "model": "fake/gpt-5",
            "provider": "fake",
            "provider_model": "gpt-5",
            "status": 200,
            "outcome": "done",
            "input_tokens": 1000,
            "cached_tokens": 400,
            "output_tokens": 100,
            "reasoning_tokens": 30,
            "estimated": False,
            "cost": "0.0012",
            "currency": "USD",
            "spend": "0.108",
        }
        assert {name: line[name] for name in expected} == expected
        assert found["currency"] == "RUB"
        assert "secret thought" not in repr(found)


async def test_pages_are_complete_while_new_calls_arrive(url: str, storage: Storage) -> None:
    """Newest first, calls of one moment too: what was there at the first page comes once, what came later never."""
    twins = [record(3, request_id=f"twin-{number}") for number in range(4)]
    fill(storage, "call_records", *[record(number) for number in range(20)], *twins)
    async with asking(url) as client:
        assert client.gateway.storage is not None
        whole = ids(await client.ask("root", RECORDS))
        assert whole == [
            *(f"call-{number:06d}" for number in range(19, 3, -1)),
            *(f"twin-{number}" for number in range(3, -1, -1)),
            *(f"call-{number:06d}" for number in range(3, -1, -1)),
        ]
        gathered: list[str] = []
        after: dict[str, str] = {}
        for arrived in range(1, 100):
            page = await client.ask("root", RECORDS, limit=3, **after)
            gathered += ids(page)
            if page["next"] is None:
                break
            after = {"after": page["next"]}
            late = record(100 + arrived)
            await client.gateway.storage.write(
                lambda session, late=late: session.connection().execute(insert(metadata.tables["call_records"]), late)
            )
        assert gathered == whole
        assert len(ids(await client.ask("root", RECORDS))) > len(whole)


@pytest.mark.parametrize("limit", [1, 2, 6, 7, 1000])
async def test_every_size_of_page_gives_the_same_calls(sqlite_url: str, limit: int) -> None:
    """The last page is the one that is not followed by another, even if it is full."""
    fill(storage_at(sqlite_url), "call_records", *[record(number) for number in range(6)])
    async with asking(sqlite_url) as client:
        found = await pages(client, limit=limit)
        assert [one for page in found for one in page] == [f"call-{number:06d}" for number in range(5, -1, -1)]
        assert len(found) == -(-6 // limit)


async def test_filters_are_those_of_the_record(url: str, storage: Storage) -> None:
    """Key, owner, model, provider, outcome and time each leave out the others, alone and together."""
    others = {
        "key": {"principal": "key_bob"},
        "owner": {"owner": "acc_2"},
        "model": {"model": "other"},
        "provider": {"provider": "two"},
        "outcome": {"outcome": "provider_error"},
    }
    rows = [record(number, request_id=name, **values) for number, (name, values) in enumerate(others.items())]
    fill(storage, "call_records", *rows, record(10, principal=None, owner=None, model=None, provider=None))
    async with asking(url) as client:
        for name, values in others.items():
            (value,) = values.values()
            assert ids(await client.ask("root", RECORDS, **{name: value})) == [name]
        assert ids(await client.ask("root", RECORDS, owner="acc_1", model="gpt-5")) == ["outcome", "provider", "key"]
        begins, ends = BEGAN + timedelta(seconds=1), BEGAN + timedelta(seconds=3)
        question = {"from_": begins.isoformat(), "to": ends.isoformat()}
        assert ids(await client.ask("root", RECORDS, **question)) == ["model", "owner"]
