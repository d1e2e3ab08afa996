"""The routes of figures and records: questions read from queries, answers as JSON or CSV."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gatewaykit.builtin.usage import records, rollups
from gatewaykit.builtin.usage.cursors import LONGEST_CURSOR, Place, pack, unpack
from gatewaykit.builtin.usage.parameters import PAGE, Parameters, Span, read_span, wants_csv, wrong
from gatewaykit.builtin.usage.rollups import Question
from gatewaykit.builtin.usage.sheets import sheet
from gatewaykit.guarding import answer
from gatewaykit.limits import Standing
from gatewaykit.pricing import money_text
from gatewaykit.storage import Storage
from gatewaykit.types import Principal

RECORDS = 100
"""Records on a page unless the client asks for another number."""

_FILTERS = ("key", "owner", "model", "provider")
Line = dict[str, Any]
Standings = Callable[[Principal], Awaitable[Sequence[Standing]]]


class Listing(Struct, frozen=True):
    """Lines that are read page by page: ``read(after, limit)`` has the next ones, ``place`` the key of one.

    ``after`` is where to begin. ``limit`` is the most lines of an answer; None: a usual page in JSON, all in CSV.
    """

    read: Callable[[Place | None, int], Awaitable[list[Line]]]
    place: Callable[[Line], Place]
    columns: Sequence[str]
    after: Place | None
    limit: int | None

    def size(self, usual: int) -> int:
        """How many lines to read for one page: one more tells whether there is a next."""
        return (self.limit or usual) + 1

    def page(self, found: list[Line], usual: int) -> tuple[list[Line], str | None]:
        """The lines of one page, and the cursor of the next, if there is one."""
        limit = self.limit or usual
        return found[:limit], pack(self.place(found[limit - 1])) if len(found) > limit else None

    async def sheet(self, name: str) -> Response:
        """All of it as CSV, never more than a page in memory. Nothing is answered before the first page is there."""
        return sheet(name, self.columns, self._pages(await self.read(self.after, self.limit or PAGE)))

    async def _pages(self, page: list[Line]) -> AsyncIterator[list[Line]]:
        while page:
            yield page
            complete = self.limit is not None or len(page) < PAGE
            page = [] if complete else await self.read(self.place(page[-1]), PAGE)


class Usage:
    """Answers from ``storage``; ``currency`` is that of accounting, ``standings`` tells how a key's limits stand."""

    def __init__(self, storage: Storage, currency: str, standings: Standings) -> None:
        self._storage = storage
        self._currency = currency
        self._standings = standings

    async def own(self, request: Request, principal: Principal) -> Response:
        """``GET /v1/usage``: the figures of the key that asks, and of no other."""
        parameters = Parameters(request)
        span, groups = read_span(parameters, _now()), parameters.choices("group", ("model",))
        question = Question(span, groups, {"key": principal.id})
        limits = [_as_limit(standing) for standing in await self._standings(principal)]
        return await self._figures(request, parameters, question, {"key": principal.id, "limits": limits})

    async def everybody(self, request: Request, principal: Principal) -> Response:
        """``GET /api/admin/usage``: the figures of all keys."""
        parameters = Parameters(request)
        span, groups = read_span(parameters, _now()), parameters.choices("group", tuple(rollups.GROUPS))
        outcome = parameters.choice("outcome", rollups.OUTCOMES)
        return await self._figures(request, parameters, Question(span, groups, _filters(parameters), outcome), {})

    async def records(self, request: Request, principal: Principal) -> Response:
        """``GET /api/admin/usage/records``: single calls, newest first."""
        parameters = Parameters(request)
        begins, ends = parameters.moment("from"), parameters.moment("to")
        if begins is not None and ends is not None and begins >= ends:
            raise wrong("from", "must be before `to`")
        where = _filters(parameters)
        if (outcome := parameters.choice("outcome", records.OUTCOMES)) is not None:
            where["outcome"] = outcome
        search = records.Search(begins, ends, where)
        after, limit = unpack(parameters.text("after", LONGEST_CURSOR), 1), parameters.number("limit", PAGE)
        as_csv = wants_csv(parameters, request)
        parameters.finish()

        async def read(after: Place | None, limit: int) -> list[Line]:
            return await self._storage.read(lambda session: records.page(session, search, after, limit))

        listing = Listing(read, _place_of_record, tuple(records.COLUMNS), after, limit)
        if as_csv:
            return await listing.sheet("usage-records")
        data, further = listing.page(await read(after, listing.size(RECORDS)), RECORDS)
        return answer({"object": "list", "currency": self._currency, "data": data, "next": further})

    async def _figures(
        self, request: Request, parameters: Parameters, question: Question, head: Mapping[str, Any]
    ) -> Response:
        after = unpack(parameters.text("after", LONGEST_CURSOR), len(question.groups))
        limit, as_csv = parameters.number("limit", PAGE), wants_csv(parameters, request)
        parameters.finish()

        async def read(after: Place | None, limit: int) -> list[Line]:
            return await self._storage.read(lambda session: rollups.page(session, question, after, limit))

        cost = ("cost",) if "currency" in question.groups else ()
        columns = ("begins", *question.groups, *rollups.COLUMNS[:-3], *cost, *rollups.COLUMNS[-3:])
        listing = Listing(read, _place_of_figures(question.groups), columns, after, limit)
        if as_csv:
            return await listing.sheet(f"usage-by-{question.span.by}")
        size = listing.size(PAGE)
        found, total = await self._storage.read(lambda session: rollups.page_and_total(session, question, after, size))
        data, further = listing.page(found, PAGE)
        span = _told(question.span)
        return answer(
            {
                "object": "usage",
                **head,
                **span,
                "currency": self._currency,
                "data": data,
                "total": total,
                "next": further,
            }
        )


def _as_limit(standing: Standing) -> Line:
    limit = standing.limit
    told = money_text if limit.unit == "money" else int
    return {
        "limit": limit.name,
        "of": limit.whose,
        "per": limit.span or None,
        "amount": told(limit.amount),
        "used": told(standing.used),
        "remaining": told(standing.remaining),
        "resets_in": None if math.isinf(standing.resets) else math.ceil(standing.resets),
    }


def _filters(parameters: Parameters) -> dict[str, str]:
    given = ((name, parameters.text(name)) for name in _FILTERS)
    return {name: value for name, value in given if value is not None}


def _place_of_record(line: Line) -> Place:
    return line["began"], (line["request_id"],)


def _place_of_figures(groups: Sequence[str]) -> Callable[[Line], Place]:
    return lambda line: (line["begins"], tuple(line[group] for group in groups))


def _told(span: Span) -> dict[str, Any]:
    return {"by": span.by, "from": span.begins, "to": span.ends}


def _now() -> datetime:
    return datetime.now(UTC)
