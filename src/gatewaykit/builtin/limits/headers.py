"""What answers say of limits: OpenAI's ``x-ratelimit-*``, and the IETF's ``RateLimit`` and ``RateLimit-Policy``.

Only a caller's own limits are told, those of its key and its account: the rest would tell what others do.
Sources: OpenAI API reference, "Rate limits"; draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TypeAlias

from gatewaykit.limiting import Standings
from gatewaykit.limits import Limit, Standing

Header: TypeAlias = tuple[bytes, bytes]
OWN = frozenset({"key", "user"})
"""Whose limits a caller may know."""

_UNITS = {"requests": "", "tokens": ';qu="tokens"', "concurrency": ';qu="concurrent-requests"', "money": ';qu="money"'}
_TOLD_AS_OPENAI_DOES = ("requests", "tokens")
_LONGEST = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651, 3.3.1)."""


class Teller:
    """Writes the headers for calls under ``limits``, of which a caller's own come first. What does not change is
    written once, and what changes with the clock once for each answer of the clock.
    """

    def __init__(self, limits: Sequence[Limit]) -> None:
        own = self._limits = [limit for limit in limits if limit.whose in OWN]
        self._amounts = [limit.amount for limit in own]
        self._is_large = max(self._amounts, default=0) > _LONGEST
        self._policy = (b"ratelimit-policy", ", ".join(map(_policy, own)).encode())
        self._units = [
            _Unit(unit, places, self._amounts)
            for unit in _TOLD_AS_OPENAI_DOES
            if (places := [place for place, limit in enumerate(own) if limit.unit == unit])
        ]
        self._resets: Sequence[float] | None = None
        self._states = b""

    def tell(self, standings: Sequence[Standing]) -> list[Header]:
        """The headers of an answer, from how the limits stand, in their order; of each unit, the tightest limit."""
        if not self._amounts:
            return []
        used, resets = _figures(standings, len(self._amounts))
        if resets is not self._resets:
            self._look_at_the_clock(resets)
        left = [most - taken for most, taken in zip(self._amounts, used, strict=True)]
        if min(left) < 0:
            left = [max(0, remaining) for remaining in left]
        found: list[Header] = []
        for unit in self._units:
            found += unit.tell(left)
        found.append(self._policy)
        figures = [min(remaining, _LONGEST) for remaining in left] if self._is_large else left
        found.append((b"ratelimit", self._states % tuple(figures)))
        return found

    def _look_at_the_clock(self, resets: Sequence[float]) -> None:
        states = [
            f'"{limit.whose}-{limit.name}";r=%d' + (f";t={ceil(seconds)}" if limit.span != "total" else "")
            for limit, seconds in zip(self._limits, resets, strict=False)
        ]
        self._states = ", ".join(states).encode()
        for unit in self._units:
            unit.look_at_the_clock(resets)
        self._resets = resets


class _Unit:
    """The headers of one unit, whose limits are in ``places`` of all of a caller's own."""

    def __init__(self, unit: str, places: Sequence[int], amounts: Sequence[int]) -> None:
        self._first, *others = places
        self._most = [amount or 1 for amount in amounts]
        self._others = [(place, self._most[place]) for place in others]
        self._limits = {place: (f"x-ratelimit-limit-{unit}".encode(), b"%d" % amounts[place]) for place in places}
        self._remaining = f"x-ratelimit-remaining-{unit}".encode()
        self._reset = f"x-ratelimit-reset-{unit}".encode()
        self._resets: dict[int, Header] = {}

    def look_at_the_clock(self, resets: Sequence[float]) -> None:
        """Write what is to be told until the next time."""
        self._resets = {place: (self._reset, duration(resets[place]).encode()) for place in self._limits}

    def tell(self, left: Sequence[int]) -> tuple[Header, ...]:
        """What is said of the limit of which least is left, by its share of the whole; of an amount of 0 nothing is."""
        found = self._first
        for place, most in self._others:
            if left[place] * self._most[found] < left[found] * most:
                found = place
        return self._limits[found], (self._remaining, b"%d" % left[found]), self._resets[found]


def _figures(standings: Sequence[Standing], count: int) -> tuple[Sequence[int], Sequence[float]]:
    """What is used of so many limits, and when they reset, see :meth:`~gatewaykit.limiting.Standings.figures`."""
    if isinstance(standings, Standings):
        return standings.figures(count)
    own = standings[:count]
    return [standing.used for standing in own], [standing.resets for standing in own]


def duration(seconds: float) -> str:
    """As OpenAI writes durations: ``17ms``, ``1s``, ``6m0s``, ``1h2m3s``."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    whole = ceil(min(seconds, _LONGEST))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s"


def _policy(limit: Limit) -> str:
    return f'"{limit.whose}-{limit.name}";q={min(limit.amount, _LONGEST)}{_UNITS[limit.unit]}{_window(limit)}'


def _window(limit: Limit) -> str:
    return f";w={limit.span}" if isinstance(limit.span, int) and limit.span else ""
