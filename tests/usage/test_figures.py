"""What was used: the figures of the calls that were made, for those who may know them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert

from gatewaykit import Finished, ProviderUnavailable, TextDelta, Usage
from gatewaykit.builtin.usage import rollups
from gatewaykit.storage import Storage
from gatewaykit.storage.tables import metadata
from gatewaykit.testing import FakeProvider

from .conftest import BEGAN, HOUR, Client, asking, fill, sums

OWN, ALL = "/v1/usage", "/api/admin/usage"
THEN = {"from_": "2026-09-21", "to": "2026-09-22", "by": "hour"}
FIGURES = ("requests", "done", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "spend")


def figures(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in FIGURES}


def provider(usage: Usage | None) -> FakeProvider:
    return FakeProvider(TextDelta("Hello"), Finished("stop"), *([usage] if usage else []))


async def test_figures_are_those_of_the_calls(url: str) -> None:
    """Calls, tokens by class and money are exactly what the provider said and the list prices, by model and in all."""
    fake = provider(Usage(1000, 100, cached_tokens=400, reasoning_tokens=30))
    async with asking(url, fake) as client:
        for _ in range(3):
            await client.call("alice", "fake/gpt-5")
        fake.script = provider(Usage(7, 5)).script
        for _ in range(2):
            await client.call("alice", "fake/GigaChat-2-Max")
        found = await client.until("alice", OWN, lambda answer: answer["total"]["requests"] == 5, group="model")
        models = {line["model"]: figures(line) for line in found["data"]}
        # 600 at 1, 400 at 0.5 and 100 at 4 USD per million, 90 RUB each: 0.108 RUB a call; 12 tokens at 0.00065 RUB.
        assert models == {
            "fake/gpt-5": dict(zip(FIGURES, (3, 3, 3000, 1200, 300, 90, "0.324"), strict=True)),
            "fake/GigaChat-2-Max": dict(zip(FIGURES, (2, 2, 14, 0, 10, 0, "0.0156"), strict=True)),
        }
        assert figures(found["total"]) == dict(zip(FIGURES, (5, 5, 3014, 1200, 310, 90, "0.3396"), strict=True))
        assert (found["currency"], found["key"], found["by"]) == ("RUB", "key_alice", "day")
        hours = await client.ask("alice", OWN, by="hour")
        assert figures(hours["total"]) == figures(found["total"])


async def test_what_has_no_price_is_counted_as_that(url: str) -> None:
    """A call without a known price costs no nothing: it is among the unpriced; a free one is not."""
    async with asking(url) as client:
        await client.call("alice", "fake/nobody-knows")
        await client.call("alice", "fake/local")
        total = (await client.until("alice", OWN, lambda answer: answer["total"]["requests"] == 2))["total"]
        assert (total["unpriced"], total["spend"]) == (1, "0.00")


async def test_refused_and_failed_calls_are_told_apart(url: str) -> None:
    """Every call is in the figures under what became of it, and costs nothing if nothing was made."""
    async with asking(url, FakeProvider(ProviderUnavailable())) as client:
        body = {"model": "fake/gpt-5", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"authorization": "Bearer alice"}
        assert (await client.http.post("/v1/chat/completions", json=body, headers=headers)).status_code == 503
        assert (await client.http.post("/v1/chat/completions", content=b"{", headers=headers)).status_code == 400
        total = (await client.until("alice", OWN, lambda answer: answer["total"]["requests"] == 2))["total"]
        assert (total["failed"], total["refused"], total["done"], total["spend"]) == (1, 1, 0, "0.00")


async def test_a_key_sees_its_own_figures_only(url: str) -> None:
    """Neither other keys, of the same owner too, nor patterns, nor parameters of the operator open anything."""
    async with asking(url) as client:
        await client.call("alice", "fake/gpt-5")
        await client.until("alice", OWN, lambda answer: answer["total"]["requests"] == 1)
        for who in ("bob", "carol", "%"):
            found = await client.ask(who, OWN, group="model")
            assert found["data"] == []
            assert found["total"]["requests"] == 0
        for parameter in ("key", "owner", "outcome", "provider", "principal"):
            answer = await client.get("bob", OWN, **{parameter: "key_alice"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter)
        for group in ("key", "owner", "provider", "currency"):
            assert (await client.get("bob", OWN, group=group)).status_code == 400


async def test_a_cursor_of_another_key_opens_nothing(url: str, storage: Storage) -> None:
    """A cursor says where to begin, never whose figures: with that of another key there is nothing but one's own."""
    hours = [HOUR + timedelta(hours=number) for number in range(3)]
    fill(storage, "usage_hours", *[sums(begins, principal="key_alice") for begins in hours])
    fill(storage, "usage_hours", sums(hours[2], principal="key_bob", requests=9))
    async with asking(url) as client:
        cursor = (await client.ask("alice", OWN, limit=1, **THEN))["next"]
        found = await client.ask("bob", OWN, after=cursor, **THEN)
        assert [line["requests"] for line in found["data"]] == [9]


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("nobody", OWN, 401),
        ("nobody", ALL, 401),
        ("mute", OWN, 403),
        ("alice", ALL, 403),
        ("alice", f"{ALL}/records", 403),
        ("alice", "/api/admin/prices", 403),
        ("root", OWN, 200),
        ("root", ALL, 200),
        ("root", f"{ALL}/records", 200),
        ("root", "/api/admin/prices", 200),
    ],
)
async def test_scopes_are_asked_for(sqlite_url: str, who: str, path: str, status: int) -> None:
    """One's own figures need the scope `usage`, those of all `admin`, in JSON and in CSV."""
    async with asking(sqlite_url) as client:
        for _ in range(2):
            answer = await client.get(who, path)
            assert answer.status_code == status
            assert answer.headers["cache-control"] == "no-store"


async def test_without_a_database_there_is_nothing_to_tell() -> None:
    """The answer is a 404 that says why, after the key was asked for."""
    async with asking(None) as client:
        for who, path in (("alice", OWN), ("root", ALL), ("root", f"{ALL}/records")):
            answer = await client.get(who, path)
            assert answer.status_code == 404
            assert "no database" in answer.json()["error"]["message"]
            assert (await client.get("nobody", path)).status_code == 401
        assert (await client.ask("root", "/api/admin/prices"))["earlier"] == []


@pytest.fixture
def filled(storage: Storage) -> Storage:
    """Two hours of two keys of one owner and one of none, over two models and providers."""
    later = HOUR + timedelta(hours=1)
    alice = {"principal": "key_alice", "owner": "acc_1", "provider": "one", "currency": "USD"}
    fill(
        storage,
        "usage_hours",
        sums(**alice, model="a"),
        sums(**alice, model="b", input_tokens=1),
        sums(later, **alice, model="a", input_tokens=2, done=0, failed=1),
        sums(later, **{**alice, "principal": "key_bob", "provider": "two", "currency": "RUB"}, model="a"),
        sums(later, principal="key_carol", done=0, refused=1, cost=0, spend=0, input_tokens=0, output_tokens=0),
    )
    return storage


async def lines(client: Client, *columns: str, **question: Any) -> list[tuple[Any, ...]]:
    found = await client.ask("root", ALL, **{**THEN, **question})
    return [tuple(line[column] for column in columns) for line in found["data"]]


async def test_the_operator_sees_figures_by_whatever_it_asks(filled: Storage, url: str) -> None:
    """Lines are told apart by hour and by each group asked for, several at once too, oldest first."""
    async with asking(url) as client:
        assert await lines(client, "begins", "requests", "input_tokens", "spend") == [
            ("2026-09-21T10:00:00Z", 2, 11, "0.0162"),
            ("2026-09-21T11:00:00Z", 3, 12, "0.0162"),
        ]
        assert await lines(client, "key", "input_tokens", group="key") == [
            ("key_alice", 11),
            ("key_alice", 2),
            ("key_bob", 10),
            ("key_carol", 0),
        ]
        assert await lines(client, "owner", "requests", group="owner", from_="2026-09-21T11:00:00Z") == [
            ("", 1),
            ("acc_1", 2),
        ]
        assert await lines(client, "provider", "model", "requests", group="model,provider", to="2026-09-21T11:00Z") == [
            ("one", "a", 1),
            ("one", "b", 1),
        ]
        assert await lines(client, "currency", "cost", "spend", group="currency", owner="acc_1") == [
            ("USD", "0.00018", "0.0162"),
            ("RUB", "0.00009", "0.0081"),
            ("USD", "0.00009", "0.0081"),
        ]


async def test_filters_leave_the_rest_out(filled: Storage, url: str) -> None:
    """Key, owner, model and provider narrow figures and total; an outcome only leaves out lines without it."""
    async with asking(url) as client:
        assert await lines(client, "requests", key="key_alice", model="a") == [(1,), (1,)]
        assert await lines(client, "requests", provider="two") == [(1,)]
        assert await lines(client, "requests", owner="nobody") == []
        assert await lines(client, "key", "failed", group="key", outcome="failed") == [("key_alice", 1)]
        found = await client.ask("root", ALL, outcome="refused", **THEN)
        assert [line["requests"] for line in found["data"]] == [3]
        assert found["total"]["requests"] == 5


async def test_pages_of_figures_are_all_of_them(filled: Storage, url: str) -> None:
    """Page by page come the same lines as at once, each once, and every page has the total of all."""
    async with asking(url) as client:
        whole = await client.ask("root", ALL, group="key,model", **THEN)
        assert whole["next"] is None
        for limit in (1, 2, 4, 5):
            gathered: list[Any] = []
            after: dict[str, str] = {}
            while True:
                page = await client.ask("root", ALL, group="key,model", limit=limit, **THEN, **after)
                assert page["total"] == whole["total"]
                assert len(page["data"]) <= limit
                gathered += page["data"]
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
            assert gathered == whole["data"]


async def test_begun_hours_and_days_are_whole(filled: Storage, url: str) -> None:
    """A time within an hour stands for that hour, at both ends; so for days; zones are converted."""
    async with asking(url) as client:
        for begin, end in (
            ("2026-09-21T10:59:59Z", "2026-09-21T11:00:00.1Z"),
            ("2026-09-21T13:30+03:00", "2026-09-21T12:00Z"),
        ):
            found = await client.ask("root", ALL, by="hour", from_=begin, to=end)
            assert (found["from"], found["to"]) == ("2026-09-21T10:00:00Z", "2026-09-21T12:00:00Z")
            assert found["total"]["requests"] == 5
        found = await client.ask("root", ALL, from_="2026-09-20T23:59:59Z", to="2026-09-21T00:00:01Z")
        assert (found["from"], found["to"], found["by"]) == ("2026-09-20T00:00:00Z", "2026-09-22T00:00:00Z", "day")


async def test_sums_beyond_64_bits_are_exact(url: str, storage: Storage) -> None:
    """The largest figures that the books can hold add up without an overflow or a rounding."""
    largest = 2**63 - 1
    rows = [sums(principal="key_alice", model=f"m{number}", input_tokens=largest, spend=largest) for number in range(3)]
    fill(storage, "usage_hours", *rows)
    async with asking(url) as client:
        total = (await client.ask("alice", OWN, **THEN))["total"]
        assert total["input_tokens"] == 3 * largest
        assert Decimal(total["spend"]) * 1_000_000 == 3 * largest


async def test_lines_and_total_are_of_one_moment(url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is written between the two looks is in both or in neither."""
    fill(storage, "usage_hours", sums(principal="key_alice"))
    page = rollups.page

    def overtaken(*arguments: Any) -> Any:
        found = page(*arguments)
        with storage.transaction() as session:
            session.connection().execute(insert(metadata.tables["usage_hours"]), sums(principal="key_alice", model="m"))
        return found

    monkeypatch.setattr(rollups, "page", overtaken)
    with storage.opened():
        async with asking(url) as client:
            found = await client.ask("alice", OWN, group="model", **THEN)
    assert len(found["data"]) == found["total"]["requests"] == 1


async def test_means_are_over_the_calls_that_have_them(url: str, storage: Storage) -> None:
    """Seconds are a mean over calls, those until the first event over calls that had one; of none there is no mean."""
    fill(
        storage,
        "usage_hours",
        sums(principal="key_alice", seconds=1.5, first_event_seconds=0.5),
        sums(principal="key_alice", model="m", seconds=0.5, first_event_seconds=0.0, first_events=0),
    )
    async with asking(url) as client:
        total = (await client.ask("alice", OWN, **THEN))["total"]
        assert (total["mean_seconds"], total["mean_first_event_seconds"]) == (1.0, 0.5)
        nothing = (await client.ask("bob", OWN, **THEN))["total"]
        assert (nothing["mean_seconds"], nothing["mean_first_event_seconds"]) == (None, None)


async def test_the_operator_sees_the_list_in_force_and_those_before(url: str, storage: Storage) -> None:
    """The current list comes with version and text; a list that calls were priced by before stays readable."""
    old = {"version": "000000000000", "created": BEGAN, "currency": "RUB", "document": {"models": []}}
    fill(storage, "price_lists", old)
    async with asking(url) as client:
        await client.call("alice", "fake/gpt-5")
        found = await client.ask("root", "/api/admin/prices")
        assert found["current"]["document"]["models"][0]["cached"] == "0.5"
        assert [before["version"] for before in found["earlier"]] == ["000000000000"]
        records = await client.until("root", f"{ALL}/records", lambda answer: len(answer["data"]) == 1)
        assert records["data"][0]["price_version"] == found["current"]["version"]
