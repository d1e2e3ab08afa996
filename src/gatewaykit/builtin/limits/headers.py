"""What answers say of limits: OpenAI's ``x-ratelimit-*``, and the IETF's ``RateLimit`` and ``RateLimit-Policy``.

Only a caller's own limits are told, those of its key and its account: the rest would tell what others do.
Sources: OpenAI API reference, "Rate limits"; draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TypeAlias

from gatewaykit.limits import Limit, Standing

Header: TypeAlias = tuple[bytes, bytes]
OWN = frozenset({"key", "user"})
"""Whose limits a caller may know."""

_UNITS = {"requests": "", "tokens": ';qu="tokens"', "concurrency": ';qu="concurrent-requests"', "money": ';qu="money"'}
_TOLD_AS_OPENAI_DOES = ("requests", "tokens")
_LONGEST = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651, 3.3.1)."""


class Teller:
    """Writes the headers for calls under ``limits``, of which a caller's own come first; what does not change is
    written once.
    """

    def __init__(self, limits: Sequence[Limit]) -> None:
        own = [limit for limit in limits if limit.whose in OWN]
        self._own = len(own)
        self._amounts = [limit.amount for limit in own]
        self._end = [limit.span != "total" for limit in own]
        self._policy = ", ".join(
            f'"{limit.whose}-{limit.name}";q={min(limit.amount, _LONGEST)}{_UNITS[limit.unit]}{_window(limit)}'
            for limit in own
        ).encode()
        self._states = ", ".join(
            f'"{limit.whose}-{limit.name}";r=%d{";t=%d" if end else ""}'
            for limit, end in zip(own, self._end, strict=True)
        ).encode()
        self._units = [
            _Unit(unit, places, self._amounts)
            for unit in _TOLD_AS_OPENAI_DOES
            if (places := [place for place, limit in enumerate(own) if limit.unit == unit])
        ]

    def tell(self, standings: Sequence[Standing]) -> list[Header]:
        """The headers of an answer, from how the limits stand, in their order; of each unit, the tightest limit."""
        if not self._own:
            return []
        own = standings[: self._own]
        left = [most - standing.used for most, standing in zip(self._amounts, own, strict=True)]
        if min(left) < 0:
            left = [max(0, remaining) for remaining in left]
        found: list[Header] = []
        for unit in self._units:
            tightest = unit.tightest(left)
            found.append(unit.limits[tightest])
            found.append((unit.remaining, b"%d" % left[tightest]))
            found.append((unit.reset, duration(own[tightest].resets).encode()))
        found.append((b"ratelimit-policy", self._policy))
        found.append((b"ratelimit", self._states % self._figures(left, own)))
        return found

    def _figures(self, left: Sequence[int], own: Sequence[Standing]) -> tuple[int, ...]:
        figures: list[int] = []
        for remaining, standing, ends in zip(left, own, self._end, strict=True):
            figures.append(remaining if remaining < _LONGEST else _LONGEST)
            if ends:
                figures.append(ceil(standing.resets))
        return tuple(figures)


class _Unit:
    """The headers of one unit, whose limits are in ``places`` of all of a caller's own."""

    def __init__(self, unit: str, places: Sequence[int], amounts: Sequence[int]) -> None:
        self._places = places
        self._most = [amount or 1 for amount in amounts]
        self._others = [(place, self._most[place]) for place in places[1:]]
        self.limits = {place: (f"x-ratelimit-limit-{unit}".encode(), b"%d" % amounts[place]) for place in places}
        self.remaining = f"x-ratelimit-remaining-{unit}".encode()
        self.reset = f"x-ratelimit-reset-{unit}".encode()

    def tightest(self, left: Sequence[int]) -> int:
        """The place of the limit of which least is left, by its share of the whole; of an amount of 0 nothing is."""
        found = self._places[0]
        for place, most in self._others:
            if left[place] * self._most[found] < left[found] * most:
                found = place
        return found


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


def _window(limit: Limit) -> str:
    return f";w={limit.span}" if isinstance(limit.span, int) and limit.span else ""
