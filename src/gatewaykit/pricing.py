"""What calls cost: the price list of ``[prices]``, and exact arithmetic with it.

Money is a whole number of micro-units, millionths of a currency: 65 RUB are 65 000 000. A sum is computed exactly, from
whole numbers, and rounded once, at the end and upwards: what costs anything never costs nothing. What does not fit into
a column of 64 bits is counted as the largest number that does, :data:`LARGEST`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fnmatch import translate
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BeforeValidator, Field, model_validator

from gatewaykit.protocols import GatewayContext
from gatewaykit.settings import Section, Table
from gatewaykit.types import CACHE, Target, Usage

MILLION = 1_000_000
LARGEST = 2**63 - 1
_BILLION = 1_000_000_000
_REMEMBERED = 4096

Money = Annotated[Decimal, Field(ge=0, lt=_BILLION, decimal_places=6)]
"""An amount of a currency. With at most 15 digits it is exact even where TOML makes a binary number of it."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Rate = Annotated[Decimal, Field(gt=0, lt=MILLION, decimal_places=9)]
Currency = Annotated[str, BeforeValidator(_upper), Field(pattern=r"^[A-Z][A-Z0-9]{2,9}$")]
"""A code as of ISO 4217; the environment spells keys in lower case."""


def money_text(micro: int) -> str:
    """Micro-units as a decimal number with two to six places: ``12.50``, ``0.000065``."""
    whole, rest = divmod(abs(micro), MILLION)
    places = f"{rest:06d}".rstrip("0")
    return f"{'-' if micro < 0 else ''}{whole}.{places:0<2}"


class PackagePrice(Table):
    """Tokens that are paid beforehand, as GigaChat sells them: each costs its share of the package's price."""

    tokens: int = Field(ge=1, le=10**15, description="Tokens in the package.")
    price: Money = Field(gt=0, description="What the package costs.")
    cached_free: bool = Field(
        False, description="Tokens that the provider took from its cache do not use up the package."
    )


class ModelPrice(Table):
    """What one model, or a family of models, costs: for tokens, by package, or nothing."""

    model: str = Field(
        min_length=1,
        max_length=512,
        description="Glob of the model's name at its provider, `GigaChat-2*`; with a slash in it, of `provider/model`.",
    )
    currency: Currency | None = Field(None, description="Currency of this price; that of accounting if unset.")
    input: Money | None = Field(None, description="Price of 1 000 000 input tokens.")
    output: Money | None = Field(None, description="Price of 1 000 000 output tokens.")
    cached: Money | None = Field(None, description="The same for input tokens from a cache; like `input` if unset.")
    reasoning: Money | None = Field(None, description="The same for reasoning tokens; like `output` if unset.")
    package: PackagePrice | None = Field(None, description="Price of a package, instead of prices of tokens.")
    request: Money = Field(Decimal(0), description="Fee for each answered call, on top.")
    free: bool = Field(False, description="Costs nothing; nothing else does, unless it is said here.")

    @property
    def tokens(self) -> tuple[Decimal | None, ...]:
        """Prices of input, cached, output and reasoning tokens, as given."""
        return self.input, self.cached, self.output, self.reasoning

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        priced = any(price is not None for price in self.tokens)
        if self.free + (self.package is not None) + priced != 1:
            raise ValueError("must be one of these: input and output, or package, or free = true")
        if self.free and self.request:
            raise ValueError("is free, and has a fee for each request")
        if priced and (self.input is None or self.output is None):
            raise ValueError("needs both input and output; 0 is a price, too")
        if priced and not any(self.tokens) and not self.request:
            raise ValueError("costs nothing: say so by free = true")
        return self


class PriceSettings(Section):
    """What calls cost. Without `models` no price is known, and budgets admit nothing unless `unknown` says so."""

    section = "prices"

    currency: Currency = Field("RUB", description="Currency of accounting: of budgets and of all that is spent.")
    rates: dict[Currency, Rate] = Field(
        {}, description="What one unit of another currency costs in that of accounting, by currency: `{USD = 92.5}`."
    )
    unknown: Literal["refuse", "count"] = Field(
        "refuse",
        description="What becomes of calls under a budget to a model without a price: `refuse` them, or let them pass "
        "and `count` them as calls of unknown cost. Calls without a budget always pass and are counted so.",
    )
    models: tuple[ModelPrice, ...] = Field((), description="Prices; the first whose `model` fits counts.")

    @model_validator(mode="after")
    def _has_all_rates(self) -> Self:
        if self.currency in self.rates:
            raise ValueError(f"rates.{self.currency}: this is the currency of accounting itself")
        for number, price in enumerate(self.models):
            if price.currency not in (None, self.currency, *self.rates):
                raise ValueError(f"models[{number}]: rates.{price.currency} is missing")
        return self


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What a call cost: ``amount`` in micro-units of ``currency``, ``spend`` in those of the currency of accounting."""

    amount: int
    currency: str
    spend: int


class PriceBook:
    """The price list in force.

    ``version`` is 12 hex digits of the SHA-256 of ``document``, the whole list in one canonical form: the same prices
    have the same version, however they are written down. It is empty when there are no prices. ``unknown`` is the
    policy of ``[prices]``.
    """

    def __init__(self, settings: PriceSettings) -> None:
        self.currency = settings.currency
        self.unknown = settings.unknown
        self.document = _document(settings)
        self.version = _digest(self.document) if settings.models else ""
        self._tariffs = tuple((_pattern(price.model), _tariff(price, settings)) for price in settings.models)
        self._remembered = lru_cache(_REMEMBERED)(self._find)

    @classmethod
    def of(cls, gateway: GatewayContext) -> PriceBook:
        """The list of this gateway; one without prices where the plugin ``prices`` does not take part."""
        try:
            return cls(gateway.settings.get(PriceSettings))
        except KeyError:
            return cls(PriceSettings.model_validate({}))

    def cost(self, target: Target, usage: Usage) -> Cost | None:
        """What ``usage`` of ``target`` costs; None when its price is not known. What was kept costs nothing."""
        if target.provider == CACHE:
            return Cost(0, self.currency, 0)
        tariff = self._remembered(target.provider, target.model)
        if tariff is None:
            return None
        exact = tariff.exact(usage)
        amount = tariff.rounded(exact)
        return Cost(amount, tariff.currency, amount if tariff.rate is None else tariff.spend(exact))

    def ceiling(self, targets: Sequence[Target], input_tokens: int, output_tokens: int) -> int | None:
        """The most that so many tokens can cost at any of ``targets``, in the currency of accounting.

        It does not rest on caches, and takes output for reasoning where that is dearer. None when a price is not known.
        """
        highest = 0
        for target in targets:
            tariff = self._remembered(target.provider, target.model)
            if tariff is None:
                return None
            highest = max(highest, tariff.spend(tariff.highest(input_tokens, output_tokens)))
        return highest

    def _find(self, provider: str, model: str) -> _Tariff | None:
        names = {True: f"{provider}/{model}", False: model}
        return next((tariff for (slash, glob), tariff in self._tariffs if glob.match(names[slash])), None)


class _Tariff(msgspec.Struct, frozen=True):
    """Prices of ``per`` tokens of each class, and of one ``request``, in micro-units of ``currency``.

    ``rate`` is what a billion units of it are in the currency of accounting; ``None`` if it is that itself. Exact sums
    are multiples of a micro-unit's ``per``-th part.
    """

    currency: str
    rate: int | None
    per: int
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    request: int = 0

    def exact(self, usage: Usage) -> int:
        """Classes are taken apart: cached tokens are among the input, reasoning among the output."""
        given, made = max(usage.input_tokens, 0), max(usage.output_tokens, 0)
        exact = given * self.input + made * self.output + self.request * self.per
        if cached := min(max(usage.cached_tokens, 0), given):
            exact += cached * (self.cached - self.input)
        if reasoning := min(max(usage.reasoning_tokens, 0), made):
            exact += reasoning * (self.reasoning - self.output)
        return exact

    def highest(self, input_tokens: int, output_tokens: int) -> int:
        given, made = max(input_tokens, 0), max(output_tokens, 0)
        tokens = given * max(self.input, self.cached) + made * max(self.output, self.reasoning)
        return tokens + self.request * self.per

    def rounded(self, exact: int) -> int:
        return min(-(-exact // self.per), LARGEST)

    def spend(self, exact: int) -> int:
        if self.rate is None:
            return self.rounded(exact)
        return min(-(-exact * self.rate // (self.per * _BILLION)), LARGEST)


def _tariff(price: ModelPrice, settings: PriceSettings) -> _Tariff:
    currency = price.currency or settings.currency
    rate = None if currency == settings.currency else int(settings.rates[currency] * _BILLION)
    request = _micro(price.request)
    if (package := price.package) is not None:
        each = _micro(package.price)
        cached = 0 if package.cached_free else each
        return _Tariff(currency, rate, package.tokens, each, cached, each, each, request)
    given, cached, made, reasoning = map(_micro, _effective(price))
    return _Tariff(currency, rate, MILLION, given, cached, made, reasoning, request)


def _effective(price: ModelPrice) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Prices of input, cached, output and reasoning tokens."""
    given, made = price.input or Decimal(0), price.output or Decimal(0)
    cached = given if price.cached is None else price.cached
    return given, cached, made, made if price.reasoning is None else price.reasoning


def _micro(amount: Decimal) -> int:
    return int(amount * MILLION)


def _pattern(glob: str) -> tuple[bool, re.Pattern[str]]:
    return "/" in glob, re.compile(translate(glob))


def _document(settings: PriceSettings) -> Mapping[str, Any]:
    return {
        "currency": settings.currency,
        "rates": {currency: _text(settings.rates[currency]) for currency in sorted(settings.rates)},
        "models": [_row(price, settings.currency) for price in settings.models],
    }


def _row(price: ModelPrice, currency: str) -> dict[str, Any]:
    row: dict[str, Any] = {"model": price.model, "currency": price.currency or currency}
    if price.request:
        row["request"] = _text(price.request)
    if price.free:
        return row | {"free": True}
    if (package := price.package) is not None:
        terms = {"tokens": package.tokens, "price": _text(package.price), "cached_free": package.cached_free}
        return row | {"package": terms}
    names = ("input", "cached", "output", "reasoning")
    return row | {name: _text(amount) for name, amount in zip(names, _effective(price), strict=True)}


def _text(number: Decimal) -> str:
    """One spelling for each number: ``65``, never ``65.0`` or ``6.5E+1``."""
    return format(number.normalize() + 0, "f")


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()[:12]
