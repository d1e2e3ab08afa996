"""What people type into forms, as values: each fault is a :class:`~gatewaykit.errors.BadRequest` naming the field."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from msgspec import UNSET, UnsetType

from gatewaykit.errors import BadRequest

from ..keys.model import KeyLimits
from ..words import N_
from .forms import Form

MICRO = 10**6
PERIODS = ("day", "week", "month", "total")
DAYS = ("30", "90", "365")
LIMITS = ("rpm", "tpm", "rpd", "tpd", "concurrency")
NOT_A_NUMBER = N_("This must be a whole number, or nothing for no limit.")
NOT_MONEY = N_("This must be an amount such as 100 or 99.50, or nothing for no limit.")
NOT_A_DATE = N_("Choose a day in the future.")
NOT_CHOSEN = N_("For this day to count, choose “after the day below”; or leave the field empty.")
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_MONEY = re.compile(r"([0-9]{1,9})(?:[.,]([0-9]{1,6}))?", re.ASCII)
_SPACES = re.compile(r"[\s\u00a0\u202f']")
_BETWEEN = re.compile(r"[\s,;]+")


def words(text: str) -> tuple[str, ...]:
    """Words between spaces, commas or line breaks."""
    return tuple(word for word in _BETWEEN.split(text) if word)


def limits_of(form: Form) -> KeyLimits:
    """The limits that a form holds; an empty field is no limit."""
    amounts = {name: _amount(form, name) for name in LIMITS}
    period = form.text("budget_period") or "month"
    if period not in PERIODS:
        raise BadRequest(NOT_MONEY, param="budget")
    return KeyLimits(**amounts, budget=_money(form, "budget"), budget_period=period)  # type: ignore[arg-type]


def shown_limits(limits: KeyLimits) -> dict[str, str]:
    """The same as the fields hold it."""
    amounts = {name: getattr(limits, name) for name in LIMITS}
    given = {name: "" if amount is None else str(amount) for name, amount in amounts.items()}
    return given | {"budget": shown_money(limits.budget), "budget_period": limits.budget_period}


def shown_money(micros: int | None) -> str:
    """An amount as a field holds it."""
    if micros is None:
        return ""
    whole, rest = divmod(micros, MICRO)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".") if rest else str(whole)


def access_of(form: Form) -> int | None:
    """The longest life of access tokens, in seconds, from a field that counts hours; None for no limit of its own."""
    hours = _amount(form, "longest_access")
    return None if hours is None else hours * 3600


def lifetime_of(form: Form) -> timedelta | None:
    """How long a key is to live, where a length of time was chosen."""
    lifetime = form.text("lifetime")
    return timedelta(days=int(lifetime)) if lifetime in DAYS else None


def expiry_of(form: Form, now: datetime, known: str = "") -> datetime | UnsetType | None:
    """When a key ends: None for never, unset where that is to stay as it is. ``known`` is the day that the field held
    before somebody typed: another one that nobody chose is a fault, not to be passed over.
    """
    lifetime, typed = form.text("lifetime"), form.text("expires")
    if lifetime != "date" and typed not in ("", known):
        raise BadRequest(NOT_CHOSEN, param="expires")
    if lifetime == "never":
        return None
    if lifetime in DAYS:
        return now + timedelta(days=int(lifetime))
    if lifetime != "date":
        return UNSET
    try:
        day = datetime.strptime(typed, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise BadRequest(NOT_A_DATE, param="expires") from None
    ends = day + timedelta(days=1)
    if ends <= now:
        raise BadRequest(NOT_A_DATE, param="expires")
    return ends


def _amount(form: Form, name: str) -> int | None:
    text = _SPACES.sub("", form.text(name))
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise BadRequest(NOT_A_NUMBER, param=name)
    return int(text)


def _money(form: Form, name: str) -> int | None:
    text = _SPACES.sub("", form.text(name))
    if not text:
        return None
    found = _MONEY.fullmatch(text)
    if found is None:
        raise BadRequest(NOT_MONEY, param=name)
    return int(found[1]) * MICRO + int((found[2] or "").ljust(6, "0"))
