"""Why a call was refused, in words: which limit, how it stands, when to come back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gatewaykit.builtin.limits.headers import OWN, Header, duration
from gatewaykit.errors import QuotaExhausted, RateLimited
from gatewaykit.limiting import Charge, Decision
from gatewaykit.limits import Limit, Standing
from gatewaykit.pricing import money_text

_WHOSE = {"key": "this key", "user": "this account", "all": "this gateway"}
_SPANS = {60: "per minute", 86_400: "per day"}
_PERIODS = {"day": "for today", "week": "for this week", "month": "for this month", "total": "in total"}


def refusal(decision: Decision, charges: Sequence[Charge], headers: Sequence[Header], currency: str) -> RateLimited:
    """The error for a decision that refused: it speaks of the limit that will take longest to have room."""
    position = max(decision.refused, key=lambda index: decision.standings[index].room_in)
    standing, charge = decision.standings[position], charges[position]
    kind = QuotaExhausted if charge.limit.unit == "money" else RateLimited
    told = [(name.decode(), value.decode()) for name, value in headers]
    error = kind(_message(standing, charge, currency), retry_after=standing.room_in, headers=told)
    error.unit = charge.limit.unit
    return error


def _message(standing: Standing, charge: Charge, currency: str) -> str:
    limit = charge.limit
    if limit.unit == "money":
        return _over_budget(standing, charge, currency)
    whose = _whose(limit)
    if limit.unit == "concurrency":
        what = f"The limit of {limit.amount} calls at the same time for {whose} ({limit.name}) is reached."
        return f"{what} Try again when one of them has ended."
    what = f"The limit of {limit.amount} {limit.unit} {_over(limit)} for {whose} ({limit.name})"
    if math.isinf(standing.room_in):
        return f"{what} is less than this request may use: {charge.amount}. Ask for fewer tokens."
    figures = f" ({standing.used} used, {charge.amount} asked for)" if limit.whose in OWN else ""
    return f"{what} is reached{figures}. Try again in {duration(standing.room_in)}."


def _over_budget(standing: Standing, charge: Charge, currency: str) -> str:
    limit = charge.limit
    what = f"The budget of {_whose(limit)} {_over(limit)}"
    if limit.whose not in OWN:
        return f"{what} is used up, or this request may exceed it."
    left = f"{money_text(standing.remaining)} of {money_text(limit.amount)} {currency}".rstrip()
    if standing.remaining == 0:
        return f"{what} is used up: {left} are left."
    return f"{what} does not allow this request, which may cost {money_text(charge.amount)}: {left} are left."


def _whose(limit: Limit) -> str:
    kind, _, name = limit.subject.partition(":")
    return _WHOSE.get(kind, f"the model {name}")


def _over(limit: Limit) -> str:
    if isinstance(limit.span, str):
        return _PERIODS[limit.span]
    return _SPANS.get(limit.span, f"within {limit.span} seconds")
