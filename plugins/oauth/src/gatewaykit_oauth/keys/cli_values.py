"""What people type: money in decimals, moments and lengths of time. Read without rounding, and shown the same way."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

MICRO = 1_000_000
"""Micro-units in one unit of a currency."""

NONE, ANY, NEVER = "none", "any", "never"
"""What takes a limit away, stands for every network, and lets a key live for ever."""

_NUMBER = re.compile(r"[0-9]{1,15}")
_MONEY = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SPAN = re.compile(r"([0-9]{1,6})([smhdwy])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_SHOWN = ("y", "d", "h", "m")


def amount(text: str) -> int | str:
    """A whole number, or ``none``."""
    if text == NONE:
        return NONE
    if not _NUMBER.fullmatch(text):
        raise click.BadParameter(f"{text!r} is not a whole number, nor {NONE!r}.")
    return int(text)


def money(text: str) -> int | str:
    """``100.50``, in the currency of accounting, as micro-units; or ``none``."""
    if text == NONE:
        return NONE
    found = _MONEY.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not an amount such as 100 or 100.50 (six decimals at most).")
    whole, fraction = found.groups(default="")
    return int(whole) * MICRO + int(fraction.ljust(6, "0"))


def span(text: str) -> timedelta:
    """``24h``: a number and one of s, m, h, d, w, y; ``0`` for none."""
    found = _span(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a length of time such as 30m, 24h or 7d.")
    return found


def expiry(text: str) -> datetime | str:
    """``90d`` from now, ``2027-01-01`` (its first moment in UTC), a moment with its zone, or ``never``."""
    if text == NEVER:
        return NEVER
    moment = _moment(text)
    if moment is None:
        raise click.BadParameter(f"{text!r} is not 90d, 2027-01-01, 2027-01-01T12:00+03:00 or {NEVER}.")
    return moment


def _span(text: str) -> timedelta | None:
    if text == "0":
        return timedelta()
    found = _SPAN.fullmatch(text)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


def _moment(text: str) -> datetime | None:
    lasting = _span(text)
    try:
        if lasting is not None:
            return datetime.now(UTC).replace(microsecond=0) + lasting
        moment = datetime.fromisoformat(text)
        if _DATE.fullmatch(text):
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def show_money(micro: int) -> str:
    """``100.50``: at least two decimals, and no more than are needed."""
    whole, rest = divmod(micro, MICRO)
    return f"{whole}.{f'{rest:06}'.rstrip('0'):0<2}"


def show_span(lasting: timedelta) -> str:
    """In the largest unit that fits: ``3d``."""
    seconds = max(0, round(lasting.total_seconds()))
    unit = next((unit for unit in _SHOWN if seconds >= _SECONDS[unit]), "s")
    return f"{round(seconds / _SECONDS[unit])}{unit}"


def show_moment(moment: datetime) -> str:
    """``2027-01-01 12:00``, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def show_ago(moment: datetime, now: datetime) -> str:
    """``3d ago``, ``in 3d``."""
    return f"{show_span(now - moment)} ago" if moment <= now else f"in {show_span(moment - now)}"
