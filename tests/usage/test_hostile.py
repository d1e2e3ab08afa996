"""Questions that nobody should ask: each is answered with figures, or with a 400 that names the parameter."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewaykit.builtin.usage.cursors import pack, unpack
from gatewaykit.errors import BadRequest
from gatewaykit.testing import running

from .conftest import asking, fill, gateway_at, key, record, storage_at, sums

PATHS = ["/v1/usage", "/api/admin/usage", "/api/admin/usage/records"]
NAMES = ["from", "to", "by", "group", "key", "owner", "model", "provider", "outcome", "after", "limit", "format"]
NASTY = [
    "",
    "0",
    "-1",
    "1e9",
    "1001",
    "٣",
    "9" * 5000,
    "x" * 257,
    "\0",
    "a\0b",
    "'; DROP TABLE call_records; --",
    "%",
    "2026-09-21",
    "2026-13-01",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2999-12-31T23:59:59Z",
    "2026-09-21T10:00:00+99:99",
    "2026-09-21T24:00:00Z",
    "hour",
    "day",
    "key,model",
    "key,key",
    ",",
    "done",
    "csv",
    "MSwyXQ",
    "WzEsWyJhIl1d",
    pack((datetime(2026, 9, 21, tzinfo=UTC), ("a",))),
]


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A gateway with some figures."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    fill(storage_at(url), "call_records", record(1), record(2))
    fill(storage_at(url), "usage_days", sums(principal="key_root"))
    with running(gateway_at(url)) as found:
        yield found


def test_no_question_breaks_anything(address: str) -> None:
    """Any bytes under any names, known ones and others: a 400 in OpenAI's form with the parameter, or a 200."""
    values = st.sampled_from(NASTY).map(str.encode) | st.binary(max_size=40)
    names = st.sampled_from(NAMES).map(str.encode) | st.binary(max_size=10)
    with httpx.Client(base_url=address, headers=key("root"), trust_env=False, timeout=30) as client:

        @settings(max_examples=150)
        @given(st.sampled_from(PATHS), st.lists(st.tuples(names, values), max_size=4))
        def ask(path: str, query: list[tuple[bytes, bytes]]) -> None:
            text = "&".join(f"{quote_from_bytes(name)}={quote_from_bytes(value)}" for name, value in query)
            answer = client.get(f"{path}?{text}")
            assert answer.status_code in (200, 400), (answer.status_code, answer.text)
            if answer.status_code == 400:
                error = answer.json()["error"]
                assert error["type"] == "invalid_request_error"
                assert isinstance(error["param"], str)

        ask()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("form", "csv"),
        ("format", "xml"),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "+5"),
        ("limit", "٣"),
        ("from", "yesterday"),
        ("from", "2026-09-21T10:00:00"),
        ("from", "20260921"),
        ("from", "2026-W39-1"),
        ("to", "1999-12-31"),
        ("to", "9999-12-31T23:59:59-14:00"),
        ("after", "not-a-cursor"),
        ("after", "x" * 8193),
        ("after", ""),
    ],
)
async def test_a_wrong_parameter_is_named(sqlite_url: str, path: str, name: str, value: str) -> None:
    """What is not known, or has no such value, is a 400 that says which it was and what would be right."""
    async with asking(sqlite_url) as client:
        error = (await client.http.get(path, params={name: value}, headers=key("root"))).json()["error"]
        assert error["param"] == name
        assert name in error["message"]
        twice = await client.http.get(f"{path}?format=csv&format=csv", headers=key("root"))
        assert (twice.status_code, twice.json()["error"]["param"]) == (400, "format")


@pytest.mark.parametrize(
    ("question", "param"),
    [
        ({"from": "2026-09-22", "to": "2026-09-22"}, "from"),
        ({"from": "2020-01-01", "to": "2026-09-22"}, "from"),
        ({"from": "2026-01-01", "to": "2026-09-22", "by": "hour"}, "from"),
        ({"by": "week"}, "by"),
        ({"group": "client"}, "group"),
        ({"group": "key,key"}, "group"),
        ({"group": ""}, "group"),
        ({"outcome": "provider_error"}, "outcome"),
        ({"key": ""}, "key"),
        ({"model": "x" * 257}, "model"),
        ({"model": "a\0"}, "model"),
    ],
)
async def test_a_question_without_sense_is_refused(sqlite_url: str, question: dict[str, str], param: str) -> None:
    """Times that end before they begin or are too long, and groups and outcomes that the sums do not know."""
    async with asking(sqlite_url) as client:
        answer = await client.http.get("/api/admin/usage", params=question, headers=key("root"))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_only_reading_is_possible(sqlite_url: str) -> None:
    """Figures and records cannot be written, changed or deleted by HTTP."""
    async with asking(sqlite_url) as client:
        for path in (*PATHS, "/api/admin/prices"):
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                assert (await client.http.request(method, path, headers=key("root"))).status_code == 405


@given(st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1)), st.lists(st.text(max_size=5), max_size=4))
def test_a_cursor_comes_back_as_it_went(moment: datetime, texts: list[str]) -> None:
    """Every place that a line can have survives the way to the client and back, to the microsecond."""
    texts = [text.replace("\0", "").encode("utf-8", "replace").decode() for text in texts]
    place = moment.replace(tzinfo=UTC), tuple(texts)
    assert unpack(pack(place), len(texts)) == place


@given(st.binary(max_size=60) | st.tuples(st.integers(), st.lists(st.text(), max_size=2)).map(msgspec.json.encode))
def test_a_made_up_cursor_is_a_place_or_refused(document: bytes) -> None:
    """No bytes under the cursor's wrapping lead anywhere else."""
    found: Any
    try:
        found = unpack(base64.urlsafe_b64encode(document).decode().rstrip("="), 1)
    except BadRequest as error:
        found = error.param
    assert found == "after" or len(found[1]) == 1
