"""What answers say of limits: OpenAI's ``x-ratelimit-*``, and the IETF's ``RateLimit`` and ``RateLimit-Policy``.

Only a caller's own limits are told, those of its key and its account: the rest would tell what others do.
Sources: OpenAI API reference, "Rate limits"; draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from gatewaykit.limits import Limit, Standing

OWN = frozenset({"key", "user"})
"""Whose limits a caller may know."""

_UNITS = {"requests": "", "tokens": ';qu="tokens"', "concurrency": ';qu="concurrent-requests"', "money": ';qu="money"'}
_TOLD_AS_OPENAI_DOES = ("requests", "tokens")
_LONGEST = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651, 3.3.1)."""


class Teller:
    """Writes the headers for calls under ``limits``; what does not change is written once."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._own = [place for place, limit in enumerate(limits) if limit.whose in OWN]
        own = [limits[place] for place in self._own]
        self._policy = ", ".join(
            f'"{limit.whose}-{limit.name}";q={min(limit.amount, _LONGEST)}{_UNITS[limit.unit]}{_window(limit)}'
            for limit in own
        )
        self._states = ", ".join(
            f'"{limit.whose}-{limit.name}";r=%d{"" if limit.span == "total" else ";t=%d"}' for limit in own
        )
        self._units = [
            (places, f"x-ratelimit-limit-{unit}", f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
            for unit in _TOLD_AS_OPENAI_DOES
            if (places := [place for place, limit in enumerate(own) if limit.unit == unit])
        ]

    def tell(self, standings: Sequence[Standing]) -> list[tuple[str, str]]:
        """The headers of an answer, from how the limits stand, in their order; of each unit, the tightest limit."""
        if not self._own:
            return []
        own = [standings[place] for place in self._own]
        found: list[tuple[str, str]] = []
        for places, limit, remaining, reset in self._units:
            tightest = own[places[0]]
            for place in places[1:]:
                if _is_tighter(own[place], tightest):
                    tightest = own[place]
            found.append((limit, str(tightest.limit.amount)))
            found.append((remaining, str(tightest.remaining)))
            found.append((reset, duration(tightest.resets)))
        found.append(("ratelimit-policy", self._policy))
        found.append(("ratelimit", self._states % tuple(self._figures(own))))
        return found

    def _figures(self, own: Sequence[Standing]) -> list[int]:
        figures: list[int] = []
        for standing in own:
            remaining = standing.limit.amount - standing.used
            figures.append(0 if remaining < 0 else remaining if remaining < _LONGEST else _LONGEST)
            if standing.limit.span != "total":
                figures.append(ceil(standing.resets))
        return figures


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


def _is_tighter(one: Standing, other: Standing) -> bool:
    """Whether less of it is left, by its share of the whole; of an amount of 0 nothing is."""
    return one.remaining * (other.limit.amount or 1) < other.remaining * (one.limit.amount or 1)


def _window(limit: Limit) -> str:
    return f";w={limit.span}" if isinstance(limit.span, int) and limit.span else ""
