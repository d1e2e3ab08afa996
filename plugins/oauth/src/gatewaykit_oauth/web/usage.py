"""Usage and the first page: what was used, when, of which models and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.guarding import read_query

from ..keys import store
from ..keys.api import managed
from ..keys.api_base import Text
from ..keys.model import ApiKey, AuditEntry
from ..signin.sessions import Session
from ..words import N_
from .charts import Chart, Value, bars
from .figures import Day, Figures, Part, by_day, by_part, in_all, span_of
from .key_lists import currency_of
from .languages import Language, language
from .rendering import render
from .site import acting, site_of

Measure = Literal["requests", "tokens", "spend"]
MEASURES: Mapping[str, str] = {"spend": N_("Spending"), "requests": N_("Requests"), "tokens": N_("Tokens")}
DAYS = (7, 30, 90, 365)
MOST_SHOWN = 50
WIDE, NARROW = (880.0, 240.0, 12), (340.0, 220.0, 4)
SOON = timedelta(days=14)


class UsageQuery(Struct, frozen=True):
    """Of which days and calls."""

    days: int = 30
    measure: Text = "requests"
    key: Text = ""
    owner: Text = ""
    model: Text = ""


class Charts(Struct, frozen=True):
    """The same for wide and for narrow screens."""

    wide: Chart
    narrow: Chart


async def show_usage(request: Request, session: Session) -> Response:
    """Figures by day, model, key and, for admins, owner."""
    site, query = site_of(request), read_query(request, UsageQuery)
    days = query.days if query.days in DAYS else 30
    measure = query.measure if query.measure in MEASURES else "requests"
    span, where = span_of(days, datetime.now(UTC)), _where(session, query)
    groups = ("model", "key", "owner") if session.is_admin else ("model", "key")

    def read(database: Database) -> tuple[list[Day], Figures, dict[str, list[Part]], ApiKey | None]:
        key = managed(database, acting(request, session), query.key) if query.key.startswith("key_") else None
        parts = {
            group: by_part(database, span, where, group) for group in groups if group not in where or group == "model"
        }
        return by_day(database, span, where), in_all(database, span, where), parts, key

    by_days, figures, parts, key = await site.desk.read(read)
    chosen, currency = language(site.language_of(request)), currency_of(request)
    return render(
        request,
        "usage.html",
        query=query,
        days=days,
        spans=DAYS,
        measure=measure,
        measures=MEASURES,
        key=key,
        total=figures,
        by_days=by_days,
        parts=parts,
        most=MOST_SHOWN,
        charts=charts_of(by_days, measure, chosen, currency),
        currency=currency,
    )


async def show_overview(request: Request, session: Session) -> Response:
    """The first page: the last 30 days, and what wants attention."""
    site, now = site_of(request), datetime.now(UTC)
    span = span_of(30, now)
    owner = None if session.is_admin else session.account.id
    where = {} if owner is None else {"owner": owner}

    def read(database: Database) -> tuple[list[Day], Figures, list[ApiKey], bool, Sequence[AuditEntry]]:
        active = store.find(database, owner=owner, status="active", sort="expires", limit=200)
        soon = [key for key in active.items if key.expires is not None and key.expires < now + SOON]
        entries = store.audit(database, limit=8).items if session.is_admin else ()
        return by_day(database, span, where), in_all(database, span, where), soon, bool(active.items), entries

    by_days, figures, soon, has_keys, entries = await site.desk.read(read)
    chosen, currency = language(site.language_of(request)), currency_of(request)
    return render(
        request,
        "overview.html",
        total=figures,
        today=by_days[-1].figures,
        by_days=by_days,
        charts=charts_of(by_days, "requests", chosen, currency),
        soon=soon,
        has_keys=has_keys,
        entries=entries,
        currency=currency,
        base_url=site.base_url(request),
    )


def charts_of(days: Sequence[Day], measure: str, chosen: Language, currency: str) -> Charts:
    """Bars of one measure by day."""
    values = [_value(day, measure, chosen, currency) for day in days]
    least = 4e-6 if measure == "spend" else 4.0  # money has millionths, calls and tokens are whole
    wide, narrow = (bars(values, *shape, least) for shape in (WIDE, NARROW))
    return Charts(wide, narrow)


def _value(day: Day, measure: str, chosen: Language, currency: str) -> Value:
    figures = day.figures
    if measure == "spend":
        amount, told = figures.spend / 10**6, chosen.money(figures.spend, currency)
    elif measure == "tokens":
        amount, told = float(figures.tokens), chosen.number(figures.tokens)
    else:
        amount, told = float(figures.requests), chosen.number(figures.requests)
    bad = float(figures.failed) if measure == "requests" else 0.0
    label = chosen.date(day.begins).rpartition("\u00a0")[0]
    return Value(label, f"{chosen.date(day.begins)}: {told}", amount, bad)


def _where(session: Session, query: UsageQuery) -> dict[str, str]:
    """What is looked at; a member sees what is their own, whatever they ask for."""
    given = {"key": query.key, "owner": query.owner, "model": query.model}
    where = {name: value for name, value in given.items() if value}
    return where if session.is_admin else {**where, "owner": session.account.id}
