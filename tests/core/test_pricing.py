"""Prices: exact, rounded once and upwards, never nothing in silence, and known by a version."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatewaykit import ConfigError, Gateway, Target, Usage
from gatewaykit.pricing import LARGEST, MILLION, PriceBook, PriceSettings, money_text
from gatewaykit.testing import make_gateway

TARGET = Target("gigachat", "GigaChat-2-Max")
amounts = st.integers(0, 10**15 - 1).map(lambda micro: Decimal(micro) / MILLION)
prices = amounts.filter(bool)
counts = st.integers(0, 10**12)


def settings(*models: dict[str, Any], **section: Any) -> PriceSettings:
    """The section as it comes out of a file."""
    document = json.dumps({"models": models, **section}, default=str)
    return PriceSettings.model_validate_json(document, strict=True)


def book(*models: dict[str, Any], **section: Any) -> PriceBook:
    return PriceBook(settings(*models, **section))


def amount(book: PriceBook, usage: Usage, target: Target = TARGET) -> int:
    cost = book.cost(target, usage)
    assert cost is not None
    return cost.amount


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Cached tokens among the input, reasoning among the output, as providers report them."""
    given, made = draw(counts), draw(counts)
    return Usage(given, made, draw(st.integers(0, given)), draw(st.integers(0, made)))


@given(amounts, amounts, prices, amounts, amounts, usages(), st.integers(1, 10**14))
def test_tokens_cost_exactly_what_the_list_says(
    given_price: Decimal,
    cached: Decimal,
    made_price: Decimal,
    reasoning: Decimal,
    fee: Decimal,
    usage: Usage,
    nano: int,
) -> None:
    """The cost is the exact sum over disjoint classes of tokens, in fractions, rounded up once; so is the spend."""
    rate = Decimal(nano) / 10**9
    found = book(
        {
            "model": "*",
            "currency": "USD",
            "input": given_price,
            "cached": cached,
            "output": made_price,
            "reasoning": reasoning,
            "request": fee,
        },
        rates={"USD": rate},
    ).cost(TARGET, usage)
    exact = Fraction(fee) + sum(
        Fraction(price) * count / MILLION
        for price, count in (
            (given_price, usage.input_tokens - usage.cached_tokens),
            (cached, usage.cached_tokens),
            (made_price, usage.output_tokens - usage.reasoning_tokens),
            (reasoning, usage.reasoning_tokens),
        )
    )
    assert found is not None
    assert found.currency == "USD"
    assert found.amount == min(ceil(exact * MILLION), LARGEST)
    assert found.spend == min(ceil(exact * Fraction(rate) * MILLION), LARGEST)


@given(prices, st.integers(1, 10**15), usages(), st.booleans())
def test_each_token_of_a_package_costs_its_share(price: Decimal, tokens: int, usage: Usage, cached_free: bool) -> None:
    """Input and output alike cost price / tokens, exactly; cached tokens nothing where they do not use it up."""
    package = {"tokens": tokens, "price": price, "cached_free": cached_free}
    used = usage.total_tokens - (usage.cached_tokens if cached_free else 0)
    exact = Fraction(price) * used / tokens
    assert amount(book({"model": "*", "package": package}), usage) == min(ceil(exact * MILLION), LARGEST)


@given(prices, prices, usages())
def test_nothing_that_has_a_price_costs_nothing(given_price: Decimal, made_price: Decimal, usage: Usage) -> None:
    """However little it is, one token costs one micro-unit at least; only no token at all costs nothing."""
    cost = book(
        {"model": "*", "currency": "USD", "input": given_price, "output": made_price}, rates={"USD": "0.000000001"}
    )
    found = cost.cost(TARGET, usage)
    assert found is not None
    assert (found.amount > 0) == (found.spend > 0) == (usage.total_tokens > 0)


@given(amounts, amounts, amounts, amounts, amounts, usages(), st.sampled_from(range(4)))
def test_more_tokens_never_cost_less(
    given_price: Decimal, cached: Decimal, made: Decimal, reasoning: Decimal, fee: Decimal, usage: Usage, more: int
) -> None:
    """One more token of any class makes a call dearer, or leaves it as it was."""
    assume(given_price or made or cached or reasoning or fee)
    row = {"input": given_price, "cached": cached, "output": made, "reasoning": reasoning, "request": fee}
    known = book({"model": "*", **row})
    larger = [
        Usage(usage.input_tokens + 1, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens),
        Usage(usage.input_tokens + 1, usage.output_tokens, usage.cached_tokens + 1, usage.reasoning_tokens),
        Usage(usage.input_tokens, usage.output_tokens + 1, usage.cached_tokens, usage.reasoning_tokens),
        Usage(usage.input_tokens, usage.output_tokens + 1, usage.cached_tokens, usage.reasoning_tokens + 1),
    ][more]
    assert amount(known, larger) >= amount(known, usage)


@given(amounts, amounts, amounts, amounts, usages())
def test_the_ceiling_is_never_below_the_cost(
    given_price: Decimal, cached: Decimal, made: Decimal, reasoning: Decimal, usage: Usage
) -> None:
    """What is reserved for so many tokens covers the call, wherever they come from and whatever they are."""
    assume(given_price or made or cached or reasoning)
    row = {"input": given_price, "cached": cached, "output": made, "reasoning": reasoning}
    known = book({"model": "*", "currency": "USD", **row}, rates={"USD": 92.5})
    found, ceiling = known.cost(TARGET, usage), known.ceiling([TARGET], usage.input_tokens, usage.output_tokens)
    assert found is not None
    assert ceiling is not None
    assert found.spend <= ceiling


@given(st.integers(), st.integers(), st.integers(), st.integers())
def test_absurd_figures_of_a_provider_cost_something_sane(given: int, made: int, cached: int, reasoning: int) -> None:
    """Negative counts are none, cached tokens are at most the input, and no cost leaves its column of 64 bits."""
    known = book({"model": "*", "input": 10**9 - 1, "output": 10**9 - 1, "cached": 1})
    assert 0 <= amount(known, Usage(given, made, cached, reasoning)) <= LARGEST
    assert amount(known, Usage(10**40, 10**40)) == LARGEST
    assert known.ceiling([TARGET], 10**40, 0) == LARGEST


def test_what_is_left_out_costs_like_its_class() -> None:
    """Without a price of their own cached tokens cost as input, reasoning tokens as output."""
    known = book({"model": "*", "input": 2, "output": 6})
    assert amount(known, Usage(MILLION, MILLION, MILLION, MILLION)) == 8 * MILLION


def test_a_number_in_the_file_is_taken_as_it_is_written(tmp_path: Path) -> None:
    """`0.1` in TOML is a tenth, not the binary number next to it; text does as well."""
    file = tmp_path / "gatewaykit.toml"
    lines = ['model = "m"', "input = 0.1", 'output = "0.3"', "cached = 123456789.123456", "request = 1e-6"]
    file.write_text("\n".join(["[[prices.models]]", *lines]))
    known = PriceBook.of(Gateway(file, environ={}))
    assert amount(known, Usage(MILLION, MILLION), Target("p", "m")) == 400_001
    assert amount(known, Usage(MILLION, 0, MILLION), Target("p", "m")) == 123456789_123457


def test_the_first_row_that_fits_counts() -> None:
    """Rows are tried in order; a glob with a slash is for provider and model, any other for the model alone."""
    known = book(
        {"model": "GigaChat-2-Max", "free": True},
        {"model": "openrouter/openai/*", "input": 1, "output": 1},
        {"model": "openai/*", "input": 2, "output": 2},
        {"model": "gpt-?", "input": 3, "output": 3},
    )
    one = Usage(MILLION)
    assert amount(known, one) == 0
    assert amount(known, one, Target("openrouter", "openai/gpt-5")) == 1 * MILLION
    assert amount(known, one, Target("openai", "gpt-5")) == 2 * MILLION
    assert amount(known, one, Target("azure", "gpt-5")) == 3 * MILLION
    assert known.cost(Target("azure", "gpt-55"), one) is None
    assert known.cost(Target("other", "openai/gpt-55"), one) is None


def test_an_unknown_price_is_not_nothing() -> None:
    """Neither cost nor ceiling is 0 where a price is missing: both are unknown, for one target of many, too."""
    known = book({"model": "known", "input": 1, "output": 1})
    assert known.cost(TARGET, Usage(1, 1)) is None
    assert known.ceiling([Target("p", "known"), TARGET], 1, 1) is None
    assert known.ceiling([Target("p", "known")], 1, 1) == 2


def test_the_ceiling_is_that_of_the_dearest_target() -> None:
    """Of several targets nobody knows which will answer: the dearest in the currency of accounting counts."""
    known = book(
        {"model": "a", "input": 100, "output": 100},
        {"model": "b", "currency": "USD", "input": 2, "output": 2},
        rates={"USD": 90},
    )
    assert known.ceiling([Target("p", "a"), Target("p", "b")], 500_000, 500_000) == 180 * MILLION


def test_the_version_is_that_of_the_meaning() -> None:
    """Other spellings of the same list have the same version."""
    one = book({"model": "m", "input": 65, "output": 65}, rates={"USD": 92.5}, currency="RUB")
    other = book(
        {"cached": "65.0", "reasoning": "65", "output": "65.00", "input": 65.0, "currency": "rub", "model": "m"},
        currency="rub",
        rates={"usd": "92.500"},
        unknown="count",
    )
    assert one.version == other.version
    assert one.document == other.document
    assert len(one.version) == 12
    assert book().version == ""


@given(st.lists(st.sampled_from(["a", "b", "c*"]), min_size=2, max_size=3, unique=True), st.integers(1, 10**9 - 1))
def test_the_version_changes_with_order_and_price(models: list[str], price: int) -> None:
    """The order of rows decides which counts, so it is part of the version; so is every figure."""
    rows = [{"model": model, "input": price, "output": number} for number, model in enumerate(models)]
    first = book(*rows).version
    assert first == book(*[dict(reversed(row.items())) for row in rows]).version
    assert first != book(*reversed(rows)).version
    assert first != book(*[{**rows[0], "input": f"{price - 1}.999999"}, *rows[1:]]).version
    assert first != book(*rows, currency="USD").version


def test_the_document_is_the_list() -> None:
    """From the document of a book the same book can be made again."""
    known = book(
        {"model": "gigachat/*", "package": {"tokens": 3, "price": 1}},
        {"model": "x", "currency": "USD", "input": "0.15", "output": 0.6, "request": "0.01"},
        {"model": "local", "free": True},
        rates={"USD": 92.5},
    )
    assert PriceBook(PriceSettings.model_validate_json(json.dumps(known.document))).version == known.version


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "must be one of these"),
        ({"free": True, "input": 1, "output": 1}, "must be one of these"),
        ({"free": True, "package": {"tokens": 1, "price": 1}}, "must be one of these"),
        ({"free": True, "request": 1}, "is free, and has a fee"),
        ({"input": 1}, "needs both input and output"),
        ({"cached": 1}, "needs both input and output"),
        ({"input": 0, "output": 0}, "say so by free = true"),
        ({"input": -1, "output": 1}, "greater than or equal to 0"),
        ({"input": 10**9, "output": 1}, "less than 1000000000"),
        ({"input": "0.0000001", "output": 1}, "6 decimal places"),
        ({"input": "1e-999999999", "output": 1}, "6 decimal places"),
        ({"input": "NaN", "output": 1}, "finite"),
        ({"input": True, "output": 1}, "decimal"),
        ({"package": {"tokens": 0, "price": 1}}, "greater than or equal to 1"),
        ({"package": {"tokens": 1, "price": 0}}, "greater than 0"),
        ({"input": 1, "output": 1, "currency": "USD"}, "rates.USD is missing"),
        ({"input": 1, "output": 1, "currency": "$"}, "match"),
    ],
)
def test_a_price_that_cannot_be_right_is_refused(row: dict[str, Any], said: str) -> None:
    """Contradictions, nothing at all, digits that would be lost and missing rates do not get as far as a call."""
    with pytest.raises(ValidationError, match=said):
        settings({"model": "m", **row})


def test_the_rate_of_the_currency_of_accounting_is_refused() -> None:
    """It is 1 by itself; another number could only be a mistake."""
    with pytest.raises(ValidationError, match="currency of accounting itself"):
        settings(rates={"RUB": 1})


def test_a_wrong_list_is_a_fault_at_its_place() -> None:
    """The gateway does not start, and the message names the row."""
    with pytest.raises(ConfigError, match=r"prices.models\[0\].*6 decimal places"):
        make_gateway(prices={"models": [{"model": "m", "input": "0.0000001", "output": 1}]})


@given(st.integers(-(2**70), 2**70))
def test_money_reads_as_what_it_is(micro: int) -> None:
    """The text of an amount is exact, plain, and has at least two places."""
    text = money_text(micro)
    assert Fraction(text) * MILLION == micro
    assert 2 <= len(text.partition(".")[2]) <= 6
    assert "e" not in text.lower()
