"""Keys as they are looked at: the list, and one key with what it has spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

from msgspec import Struct
from sqlalchemy.orm import Session as Database
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.guarding import read_query
from gatewaykit.limits import Period, period
from gatewaykit.pricing import PriceBook
from gatewaykit.storage.spending import spent_by_keys

from ..accounts import account_ids
from ..keys import store
from ..keys.api import managed
from ..keys.api_base import Cursor, Text, named
from ..keys.model import ApiKey, AuditEntry, Page, Sort, Status
from ..signin.sessions import Session
from .rendering import render
from .site import acting, site_of

ON_A_PAGE = 25
SORTS: tuple[Sort, ...] = get_args(Sort)
STATUSES: tuple[Status, ...] = get_args(Status)


class KeysQuery(Struct, frozen=True):
    """Which keys are listed. Empty fields of the form ask for nothing."""

    text: Text = ""
    owner: Text = ""
    status: Text = ""
    sort: Text = "-created"
    after: Cursor | None = None
    done: Text = ""


class Budget(Struct, frozen=True):
    """What a key has spent of its budget, in micro-units."""

    spent: int
    amount: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.spent / self.amount) if self.amount else 1.0


async def list_keys(request: Request, session: Session) -> Response:
    """The keys that somebody manages."""
    site, query = site_of(request), read_query(request, KeysQuery)
    sort: Sort = query.sort if query.sort in SORTS else "-created"
    status: Status | None = query.status if query.status in STATUSES else None
    owner = (query.owner or None) if session.is_admin else session.account.id

    def read(database: Database) -> tuple[Page[ApiKey], dict[str, Budget], Sequence[str]]:
        found = store.find(
            database,
            owner=owner,
            status=status,
            text=query.text.strip() or None,
            sort=sort,
            after=query.after,
            limit=ON_A_PAGE,
        )
        owners = account_ids(database, chosen=query.owner) if session.is_admin else []
        return found, budgets(database, found.items), owners

    found, spending, owners = await site.desk.read(read)
    return render(
        request,
        "keys.html",
        keys=found.items,
        following=found.next,
        budgets=spending,
        currency=currency_of(request),
        owners=owners,
        query=query,
        sort=sort,
        state=status,
        filtered=bool(query.text or status or (session.is_admin and query.owner)),
    )


async def show_key(request: Request, session: Session) -> Response:
    """All that is known of one key."""
    site, actor, key_id = site_of(request), acting(request, session), named(request, "id")

    def read(database: Database) -> tuple[ApiKey, dict[str, Budget], dict[str, int], Page[AuditEntry]]:
        key = managed(database, actor, key_id)
        month = datetime.fromtimestamp(period("month", datetime.now(UTC).timestamp())[0], UTC)
        spent = spent_by_keys(database, [key.id], month)
        return key, budgets(database, [key]), spent, store.audit(database, key_id=key.id, limit=10)

    key, spending, spent, audit = await site.desk.read(read)
    return render(
        request,
        "key.html",
        key=key,
        budget=spending.get(key.id),
        spent=spent.get(key.id, 0),
        currency=currency_of(request),
        entries=audit.items,
    )


async def managed_key(request: Request, session: Session) -> ApiKey:
    """The key in the path. Raises :class:`~gatewaykit.errors.NotFound` for one that the person does not manage."""
    actor, key_id = acting(request, session), named(request, "id")
    return await site_of(request).desk.read(lambda database: managed(database, actor, key_id))


def budgets(database: Database, keys: Sequence[ApiKey]) -> dict[str, Budget]:
    """How the budgets of these keys stand, by their ids: one question for each kind of period."""
    now, found = datetime.now(UTC).timestamp(), dict[str, Budget]()
    spans: tuple[Period, ...] = get_args(Period)
    for span in spans:
        amounts = {
            key.id: key.limits.budget
            for key in keys
            if key.limits.budget is not None and key.limits.budget_period == span
        }
        if amounts:
            spent = spent_by_keys(database, list(amounts), datetime.fromtimestamp(period(span, now)[0], UTC))
            found |= {key: Budget(spent.get(key, 0), amount) for key, amount in amounts.items()}
    return found


def currency_of(request: Request) -> str:
    """The currency of accounting."""
    return PriceBook.of(site_of(request).desk.gateway).currency
