"""``/admin/live``: the page, and by itself the part of it that is drawn anew every few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.guarding import read_query
from gatewaykit.metrics.names import CALLS, FIRST, LONG, OUTCOME, WORKERS

from ...signin.sessions import Session
from ...words import N_
from ..figures import in_all, span_of
from ..key_lists import currency_of
from ..rendering import render
from ..site import is_polled, site_of
from . import standing
from .samples import OUTCOMES, SECONDS, Sample
from .sums import Sums
from .trends import Trends

PACES = (5, 30, 0)
"""Seconds between two looks, among which people choose; 0 is to look once."""

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "answered": (N_("answered"), ("done",)),
    "client": (N_("the client's"), ("refused", "blocked", "client_gone")),
    "provider": (N_("the provider's"), ("provider_error", "timeout")),
    "own": (N_("the gateway's own"), ("unavailable", "failed")),
}
"""Whose fault it was, by outcome: as alerts and dashboards tell them apart."""

ENDINGS = {
    "done": N_("answered"),
    "refused": N_("refused: the key, a limit or the request itself"),
    "blocked": N_("blocked for its content"),
    "client_gone": N_("the client left"),
    "provider_error": N_("the provider failed"),
    "timeout": N_("the provider took too long"),
    "unavailable": N_("the gateway could not take it"),
    "failed": N_("the gateway failed"),
}


class LiveQuery(Struct, frozen=True):
    """``every``: seconds between two looks."""

    every: int | None = None


class Ending(Struct, frozen=True):
    """How calls ended, and how many did: in the last minute, in a quarter of an hour, and since the start."""

    kind: str
    label: str
    minute: float
    lately: float
    total: int


async def show_live(request: Request, session: Session) -> Response:
    """The page; for scripts that ask again, the numbers alone."""
    site, query = site_of(request), read_query(request, LiveQuery)
    sums = Sums(await site.desk.gateway.tally.read())
    template = "live/numbers.html" if is_polled(request) else "live/page.html"
    pace = query.every if query.every in PACES else PACES[0]
    values: dict[str, Any] = {"pace": pace, "paces": PACES, "chosen": query.every is not None}
    if not sums.has(WORKERS):
        return render(request, template, measured=False, **values)
    today = await site.desk.read(lambda database: in_all(database, span_of(1, datetime.now(UTC)), {}))
    return render(request, template, measured=True, today=today, **values, **_numbers(request, sums))


def _numbers(request: Request, sums: Sums) -> dict[str, Any]:
    clock, sample = time.monotonic(), Sample.of(sums)
    trends = Trends(site_of(request).samples.all(clock), sample, clock % SECONDS)
    return {
        "sample": sample,
        "trends": trends,
        "pick": PICKS,
        "minute": {name: trends.minute(pick) for name, pick in PICKS.items()},
        "lines": {name: trends.rates(pick) for name, pick in PICKS.items()} | _lines(trends),
        "endings": _endings(sums, trends),
        "kinds": {kind: label for kind, (label, _) in KINDS.items()},
        "targets": standing.targets(sums),
        "credentials": standing.credentials(sums),
        "queues": standing.queues(sums),
        "codes": standing.codes(sums),
        "refusals": standing.refusals(sums),
        "budgets": standing.budgets(sums),
        "inside": standing.inside(sums),
        "currency": currency_of(request),
    }


def _calls(names: Sequence[str]) -> Any:
    places = [OUTCOMES.index(name) for name in names]
    return lambda sample: sum(sample.calls[place] for place in places)


PICKS = {
    "calls": _calls(OUTCOMES),
    **{kind: _calls(outcomes) for kind, (_, outcomes) in KINDS.items()},
    "failed": _calls((*KINDS["provider"][1], *KINDS["own"][1])),
    "tokens": lambda sample: sample.given + sample.made,
    "spend": lambda sample: sample.spend,
    "refused": lambda sample: sample.refused,
}
"""What is told by the minute."""


def _lines(trends: Trends) -> dict[str, Any]:
    return {
        "active": trends.levels(lambda sample: sample.active),
        "streams": trends.levels(lambda sample: sample.streams),
        "waiting": trends.levels(lambda sample: sample.waiting),
        "outbox": trends.levels(lambda sample: sample.outbox),
        "slow": trends.quantiles(0.95, LONG, lambda sample: sample.answers),
        "first": trends.quantiles(0.95, FIRST, lambda sample: sample.firsts),
    }


def _endings(sums: Sums, trends: Trends) -> list[Ending]:
    """Those that there were, and one of each kind in any case."""
    totals = sums.by(CALLS, OUTCOME)
    found = []
    for kind, (_, outcomes) in KINDS.items():
        seen = [name for name in outcomes if totals.get((name,))]
        for name in seen or outcomes[:1]:
            pick = _calls((name,))
            total = int(totals.get((name,), 0))
            found.append(Ending(kind, ENDINGS[name], trends.minute(pick), trends.all(pick), total))
    return found
