"""``[limits]``: who may use how much."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from gatewaykit.limits import Limit, Period
from gatewaykit.pricing import MILLION
from gatewaykit.settings import Seconds, Section, Table

_MINUTE, _DAY = 60, 86_400


class LimitTable(Table):
    """Limits of one subject; what is not set is not limited."""

    rpm: int | None = Field(None, ge=0, description="Requests within any 60 seconds.")
    rpd: int | None = Field(None, ge=0, description="Requests within any 24 hours.")
    tpm: int | None = Field(None, ge=0, description="Tokens, asked and answered, within any 60 seconds.")
    tpd: int | None = Field(None, ge=0, description="Tokens, asked and answered, within any 24 hours.")
    concurrency: int | None = Field(None, ge=0, description="Calls at the same time.")
    budget: Decimal | None = Field(
        None, ge=0, le=10**12, decimal_places=6, description="Money in each period, in the currency of `[prices]`."
    )
    budget_period: Period = Field("month", description="Calendar period of the budget, in UTC; `total` never ends.")

    def limits(self, subject: str) -> Iterator[Limit]:
        """The limits that are set, for ``subject``."""
        if self.rpm is not None:
            yield Limit(subject, "requests", self.rpm, _MINUTE)
        if self.rpd is not None:
            yield Limit(subject, "requests", self.rpd, _DAY)
        if self.tpm is not None:
            yield Limit(subject, "tokens", self.tpm, _MINUTE)
        if self.tpd is not None:
            yield Limit(subject, "tokens", self.tpd, _DAY)
        if self.concurrency is not None:
            yield Limit(subject, "concurrency", self.concurrency, 0)
        if self.budget is not None:
            yield Limit(subject, "money", int(self.budget * MILLION), self.budget_period)


_NO_LIMITS = LimitTable.model_validate({})


class LimitsSettings(Section):
    """How much may be used, by whom, and what counts it."""

    section = "limits"

    store: Literal["auto", "memory", "database", "redis"] = Field(
        "auto",
        description="What counts. `auto`: Redis where `redis.url` is set; else the memory of a single worker, or the "
        "database that several workers share.",
    )
    on_failure: Literal["local", "deny", "allow"] = Field(
        "local",
        description="While the store is down or too slow: count in each process (`local`), refuse with 503 (`deny`), "
        "or let everything pass (`allow`).",
    )
    instances: int = Field(
        1, ge=1, description="Processes among which amounts are divided while each counts for itself."
    )
    lease: Seconds = Field(
        60.0, ge=5, description="Seconds after which what a process reserved is freed, if that process has died."
    )
    output_tokens: int = Field(
        1024, ge=1, description="Tokens that are reserved for an answer whose request sets no `max_tokens`."
    )
    budget_warning: float = Field(
        0.8, gt=0, le=1, description="From this share of a budget on the log warns of it, once in its period."
    )
    all: LimitTable = Field(_NO_LIMITS, description="For all calls together.")
    each_key: LimitTable = Field(_NO_LIMITS, description="For every key that has no such limit of its own.")
    each_user: LimitTable = Field(_NO_LIMITS, description="For every owner of keys that has no such limit of its own.")
    keys: dict[str, LimitTable] = Field({}, description="For single keys, by their id, such as `static:NAME`.")
    models: dict[str, LimitTable] = Field(
        {}, description="For models, by glob: the models that it matches share what it allows."
    )

    @model_validator(mode="after")
    def _names_are_plain(self) -> Self:
        for name in (*self.keys, *self.models):
            if not name or len(name) > 256 or not name.isprintable():
                raise ValueError(f"{name[:40]!r} is no name of a key or a model")
        return self
