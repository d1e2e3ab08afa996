"""The parameters of a query: each is looked up once, and what nobody asked for is refused by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from msgspec import Struct
from starlette.requests import Request

from gatewaykit.errors import BadRequest

By: TypeAlias = Literal["hour", "day"]
LONGEST_TEXT = 256
PAGE = 1000
"""Most lines of one answer in JSON, and of one look into the database."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d))?", re.ASCII)
_YEARS = (2000, 2999)
_LENGTHS: dict[By, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_DEFAULTS: dict[By, timedelta] = {"hour": timedelta(hours=24), "day": timedelta(days=30)}
_LONGEST: dict[By, timedelta] = {"hour": timedelta(days=93), "day": timedelta(days=1100)}


class Parameters:
    """The query of ``request``. Every method raises :class:`~gatewaykit.errors.BadRequest` that names the parameter."""

    def __init__(self, request: Request) -> None:
        self._left: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name in self._left:
                raise wrong(name, "is given twice")
            self._left[name] = value

    def text(self, name: str, longest: int = LONGEST_TEXT) -> str | None:
        """A text, as a name or an id is."""
        value = self._left.pop(name, None)
        if value is not None and (not 1 <= len(value) <= longest or "\0" in value):
            raise wrong(name, f"must be a text of 1 to {longest} characters")
        return value

    def choice(self, name: str, known: Sequence[str]) -> str | None:
        """One of the ``known`` words."""
        value = self._left.pop(name, None)
        if value is not None and value not in known:
            raise wrong(name, f"must be one of {', '.join(known)}")
        return value

    def choices(self, name: str, known: Sequence[str]) -> tuple[str, ...]:
        """Any of the ``known`` words, joined by commas, in the order of ``known``."""
        value = self._left.pop(name, None)
        words = [] if value is None else value.split(",")
        if not set(words) <= set(known) or len(set(words)) < len(words):
            raise wrong(name, f"must be one of {', '.join(known)}, or several joined by commas")
        return tuple(word for word in known if word in words)

    def number(self, name: str, highest: int) -> int | None:
        """A whole number from 1."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= highest:
            raise wrong(name, f"must be a whole number from 1 to {highest}")
        return int(value)

    def moment(self, name: str) -> datetime | None:
        """A date (its beginning in UTC), or a date and time with a zone (RFC 3339)."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        try:
            if not _MOMENT.fullmatch(value):
                raise ValueError(value)
            given = datetime.fromisoformat(value)
            moment = given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
            if not _YEARS[0] <= moment.year <= _YEARS[1]:
                raise ValueError(value)
        except (ValueError, OverflowError):
            raise wrong(name, "must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z") from None
        return moment

    def finish(self) -> None:
        """Nothing may be left."""
        for name in self._left:
            raise wrong(name, "is not known here")


class Span(Struct, frozen=True):
    """Whole hours or days, from ``begins`` until before ``ends``, in UTC."""

    by: By
    begins: datetime
    ends: datetime


def read_span(parameters: Parameters, now: datetime) -> Span:
    """``from``, ``to`` and ``by``; hours and days that are begun count as whole."""
    by: By = "hour" if parameters.choice("by", ("hour", "day")) == "hour" else "day"
    given, until = parameters.moment("from"), parameters.moment("to")
    ends = _beginning(by, (until or now) - timedelta(microseconds=1)) + _LENGTHS[by]
    begins = _beginning(by, given) if given is not None else ends - _DEFAULTS[by]
    if begins >= ends:
        raise wrong("from", "must be before `to`")
    if ends - begins > _LONGEST[by]:
        raise wrong("from", f"must be within {_LONGEST[by].days} days of `to` where figures are by the {by}")
    return Span(by, begins, ends)


def wants_csv(parameters: Parameters, request: Request) -> bool:
    """``format`` says so, or else the header ``Accept``."""
    chosen = parameters.choice("format", ("json", "csv"))
    if chosen is not None:
        return chosen == "csv"
    kinds = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return "text/csv" in kinds


def wrong(name: str, what: str) -> BadRequest:
    """The parameter ``name`` is at fault. Names come from clients: they are cut, and made visible."""
    shown = name[:64] if name.isprintable() else ascii(name[:64])[1:-1]
    return BadRequest(f"The parameter {shown!r} {what}.", param=shown)


def _beginning(by: By, moment: datetime) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if by == "hour" else hour.replace(hour=0)
