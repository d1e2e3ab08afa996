"""CSV: what a spreadsheet opens is what was asked for, and nothing in it is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from gatewaykit import Unavailable
from gatewaykit.builtin.usage import records
from gatewaykit.builtin.usage.parameters import PAGE
from gatewaykit.builtin.usage.sheets import cell, lines, sheet
from gatewaykit.storage import Storage

from .conftest import Client, asking, fill, key, many, moment, record, storage_at, sums
from .test_figures import ALL, OWN, THEN
from .test_records import RECORDS

VALUES: dict[str, str] = {
    "request_id": "'call-' || i",
    "method": "'POST'",
    "path": "'/v1/chat/completions'",
    "dialect": "'openai_chat'",
    "status": "200",
    "outcome": "'done'",
    "principal": "'key_' || (i - i / 500 * 500)",
    "owner": "'acc_' || (i - i / 300 * 300)",
    "model": "'model-' || (i - i / 400 * 400)",
    "provider": "'fake'",
    "stream": "false",
    "seconds": "0.5",
}
"""SQL of the columns of ``call_records`` for row ``i``."""


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def written(session: Session, count: int) -> None:
    """Many calls, one each second."""
    connection = session.connection()
    attempts = "'[]'" if connection.dialect.name == "sqlite" else "'[]'::json"
    many(connection, "call_records", count, **VALUES, began=moment(connection, "i"), attempts=attempts)


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=4), min_size=1))
def test_any_text_parses_back(rows: list[list[str]]) -> None:
    """Quotes, separators and line breaks survive; only texts that a spreadsheet would run have an apostrophe more."""
    text = lines(rows).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [[cell(value) for value in row] for row in rows]
    assert text.endswith("\r\n")
    for row in rows:
        for value in row:
            assert cell(value).replace("'", "") == value.replace("'", "")


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\n1", " =1", "\u00a0=1", "＝1", "\ufeff=1", '"=1"', "\t1"]
)
def test_no_text_is_a_formula(text: str) -> None:
    """What begins as a formula does, after white space too, begins with an apostrophe instead."""
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@given(
    st.lists(
        st.lists(
            st.text(st.sampled_from(";,\t\n\r\"'=+-@ \u00a0a1")) | st.integers(0) | st.none(), min_size=3, max_size=3
        ),
        min_size=1,
    )
)
def test_no_text_is_a_formula_wherever_a_spreadsheet_divides(separator: str, rows: list[list[Any]]) -> None:
    """Whatever separates cells in a country, no cell begins as a formula does."""
    for line in csv.reader(io.StringIO(lines(rows).decode(), newline=""), delimiter=separator):
        for found in line:
            assert not found.strip().startswith(tuple("=+-@"))


@given(st.sampled_from(";\t\n"), st.sampled_from("=+-@＝"), st.text(st.sampled_from('" \u00a0\u200b')))
def test_a_formula_behind_a_separator_is_a_text(separator: str, sign: str, between: str) -> None:
    """Also within the JSON of a list, into which clients' words get."""
    assert cell(f"x{separator}{between}{sign}1") == f"x{separator}'{between}{sign}1"
    assert f";'{sign}1" in cell([{"target": f"fake/x;{sign}1"}])


def test_plain_values_stay_what_they_are() -> None:
    """Numbers, even negative ones, and plain texts are not touched."""
    assert [cell(value) for value in (-1, 0.5, "gpt-5", "a=b", "", None, True)] == [
        -1,
        0.5,
        "gpt-5",
        "a=b",
        "",
        None,
        "true",
    ]


@pytest.mark.parametrize("how", [{"format": "csv"}, {"accept": "text/csv"}])
async def test_csv_is_what_json_is(url: str, storage: Storage, how: dict[str, str]) -> None:
    """Lines and columns of a sheet are those of the JSON, for the parameter and for the header `Accept`."""
    fill(storage, "call_records", *[record(number) for number in range(5)])
    fill(storage, "usage_hours", sums(principal="key_alice"), sums(principal="key_alice", model="m", currency="USD"))
    async with asking(url) as client:
        for who, path, question in (
            ("root", RECORDS, {}),
            ("root", RECORDS, {"limit": "2"}),
            ("root", ALL, {**THEN, "group": "key,currency"}),
            ("alice", OWN, {**THEN, "group": "model"}),
        ):
            expected = (await client.ask(who, path, **question))["data"]
            answer = await download(client, who, path, question, how)
            assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
            assert "attachment" in answer.headers["content-disposition"]
            found = parsed(answer.text)
            assert list(found[0]) == list(expected[0])
            assert found == [{name: shown(value) for name, value in line.items()} for line in expected]


async def download(
    client: Client, who: str, path: str, question: dict[str, str], how: dict[str, str]
) -> httpx.Response:
    parameters = {name.rstrip("_"): value for name, value in question.items()}
    if "accept" in how:
        return await client.http.get(path, params=parameters, headers={**key(who), **how})
    return await client.http.get(path, params={**parameters, **how}, headers=key(who))


def shown(value: Any) -> str:
    plain = {None: "", True: "true", False: "false"}
    if isinstance(value, list):
        return msgspec.json.encode(value).decode()
    return plain[value] if value is None or isinstance(value, bool) else str(value)


async def test_what_clients_say_cannot_run_in_a_spreadsheet(url: str, storage: Storage) -> None:
    """A model or an id that is a formula arrives as a text."""
    fill(storage, "call_records", record(1, model='=HYPERLINK("http://evil","x")', request_id="-2+3"))
    async with asking(url) as client:
        (line,) = parsed((await client.get("root", RECORDS, format="csv")).text)
        assert (line["model"], line["request_id"]) == ('\'=HYPERLINK("http://evil","x")', "'-2+3")


async def test_a_sheet_is_read_in_pages(url: str, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are, each comes once, and no look into the database brings more than a page."""
    sizes: list[int] = []
    page = records.page

    def counted(*arguments: Any) -> list[dict[str, Any]]:
        found = page(*arguments)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(records, "page", counted)
    count = 2 * PAGE + 1
    with storage.opened(), storage.transaction() as session:
        written(session, count)
    async with asking(url) as client:
        found = parsed((await client.get("root", RECORDS, format="csv")).text)
    assert [line["request_id"] for line in found] == [f"call-{number}" for number in range(count, 0, -1)]
    assert sizes == [PAGE, PAGE, 1]


async def test_half_a_sheet_never_looks_whole(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database fails in the middle, the answer breaks off; when it fails at first, it is a 503."""
    storage = storage_at(sqlite_url)
    with storage.opened(), storage.transaction() as session:
        written(session, PAGE + 1)
    page = records.page

    def failing(session: Session, search: Any, after: Any, limit: int) -> list[dict[str, Any]]:
        if after is not None or search.where:
            raise Unavailable(retry_after=1.0)
        return page(session, search, after, limit)

    monkeypatch.setattr(records, "page", failing)
    async with asking(sqlite_url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("root", RECORDS, format="csv")
        answer = await client.get("root", RECORDS, format="csv", key="x")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_pages_of_a_generator_are_sent_as_they_come() -> None:
    """The head of a sheet does not wait for its rows."""
    asked: list[int] = []

    async def source() -> AsyncIterator[list[dict[str, Any]]]:
        for number in range(2):
            asked.append(number)
            yield [{"a": number}]

    response: Any = sheet("x", ["a"], source())
    body = response.body_iterator
    assert (await anext(body), asked) == (b'"a"\r\n', [])
    assert (await anext(body), asked) == (b"0\r\n", [0])
    assert [chunk async for chunk in body] == [b"1\r\n"]
