"""Why a request goes where it goes: what the router and the circuits say of it, without a call."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from gatewaykit.attempts.course import Course
from gatewaykit.attempts.targets import Targets, TargetState
from gatewaykit.builtin.router.conditions import prompt_tokens
from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.builtin.router.table import CODES, Entry
from gatewaykit.errors import GatewayError, ProviderUnavailable, QuotaExhausted, RateLimited
from gatewaykit.limits import Forecast
from gatewaykit.pricing import PriceBook, money_text
from gatewaykit.protocols import Known
from gatewaykit.types import Call, Target

Document = dict[str, Any]
_KINDS = {code: kind for kind, codes in CODES.items() for code in codes}
_TOKENS_ANSWERED = 1000


def explain(router: ModelRouter, targets: Targets, book: PriceBook, call: Call) -> Document:
    """The rules and candidates for ``call``, why each was passed over, and the order that is left."""
    asked = call.request.model
    way, entry = router.way(asked), router.choose(call)
    rules = [{"rule": rule.number, "to": rule.to, "unmet": rule.unmet(call)} for rule in way.rules]
    used = next((rule for rule in rules if not rule["unmet"]), None)
    order, now = entry.order(call), time.monotonic()
    turn = _in_turn(order, call, targets, now)
    candidates = [
        {
            **_place(entry, target),
            **told(targets[target], now),
            "price": _price(book, target, call),
            "dropped": None if target in turn else _dropped(target, targets[target], order, now),
        }
        for target in (*(target for target, _ in entry.rows), *entry.last)
    ]
    return {
        "model": asked,
        "rule": used and used["rule"],
        "rules": rules,
        "serves": entry.name,
        "strategy": entry.how,
        "prompt_tokens": prompt_tokens(call),
        "candidates": candidates,
        "order": [str(target) for target in turn],
        "retry_budget": round(targets.budget.balance, 1),
    }


def told(state: TargetState, now: float) -> Document:
    """What is known of one target."""
    breaker = state.breaker
    calls, failed, slow = (0, 0, 0) if breaker is None else breaker.shares(now)
    return {
        "target": str(state.target),
        "circuit": state.circuit,
        "opens_in": None if state.admits(now) else round(state.opens_in(now), 3),
        "window": {"calls": calls, "failed": failed, "slow": slow},
        "resting": round(state.resting(now), 3),
        "in_flight": state.in_flight,
        "latency": {
            "first_event": round(state.first_event.expected(now), 4),
            "whole": round(state.whole.expected(now), 4),
        },
        "last_error": state.last_error,
    }


def key_told(asked: str, known: Known | None) -> Document | None:
    """Who asks and what it may do; ``None`` where nobody in particular does."""
    if not asked:
        return None
    if known is None:
        return {"id": asked, "known": False}
    who = known.principal
    return {
        "id": who.id,
        "known": True,
        "name": who.name,
        "owner": who.owner or None,
        "bars": known.bars or None,
        "scopes": sorted(who.scopes),
        "models": list(who.models),
        "routes": list(who.routes),
        "networks": [str(network) for network in known.networks],
    }


def limits_told(forecasts: Sequence[Forecast]) -> list[Document]:
    """How limits stand, and whether they would let the call in."""
    return [_limit_told(forecast) for forecast in forecasts]


def refusal_told(refusal: GatewayError | None, forecasts: Sequence[Forecast], order: Sequence[str]) -> Document | None:
    """What the client would hear instead of an answer, from the first that would refuse it."""
    full = next((forecast for forecast in forecasts if not forecast.fits), None)
    if refusal is None and full is not None:
        limit = full.standing.limit
        kind = QuotaExhausted if limit.unit == "money" else RateLimited
        refusal = kind(f"The limit {limit.name} of {limit.subject} has no room for it.")
    if refusal is None and not order:
        refusal = ProviderUnavailable("The circuits of all targets are open.")
    return None if refusal is None else {"status": refusal.status, "code": refusal.code, "message": refusal.message}


def happened(attempts: Sequence[Mapping[str, Any]]) -> list[Document]:
    """The attempts of a past call, with the kind of each failure in the words of ``[router]``."""
    return [{**attempt, "kind": _KINDS.get(str(attempt.get("error")))} for attempt in attempts]


def _limit_told(forecast: Forecast) -> Document:
    standing = forecast.standing
    limit = standing.limit

    def amount(number: int) -> int | str:
        return money_text(number) if limit.unit == "money" else number

    return {
        "limit": limit.name,
        "of": limit.whose,
        "amount": amount(limit.amount),
        "remaining": amount(standing.remaining),
        "charge": amount(forecast.charge),
        "fits": forecast.fits,
        "resets_in": None if math.isinf(standing.resets) else math.ceil(standing.resets),
    }


def _place(entry: Entry, target: Target) -> Document:
    row = next((row for known, row in entry.rows if known is target), None)
    return {
        "priority": row and row.priority,
        "weight": row and row.weight,
        "after": sorted({_KINDS[code] for code in target.after}),
    }


def _price(book: PriceBook, target: Target, call: Call) -> str | None:
    spend = book.ceiling((target,), prompt_tokens(call), _TOKENS_ANSWERED)
    return None if spend is None else f"{money_text(spend)} {book.currency}"


def _dropped(target: Target, state: TargetState, order: Sequence[Target], now: float) -> str:
    if target.after:
        return f"asked only after {' or '.join(sorted({_KINDS[code] for code in target.after}))}"
    if target not in order:
        return f"its window of {target.context} tokens is too short"
    if not state.admits(now):
        return f"its circuit is open for {state.opens_in(now):.1f} s"
    return "the circuit of one before it is open, and others wait for its kind of failure"


def _in_turn(order: Sequence[Target], call: Call, targets: Targets, now: float) -> list[Target]:
    """Those that would be asked, as attempts ask them, if each fails in a way for which nobody waits."""
    course = Course(structs.replace(call, targets=tuple(order)), targets)
    return [target for target, _ in iter(lambda: course.next(now), None)]
