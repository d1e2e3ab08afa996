"""What answers say of limits: OpenAI's ``x-ratelimit-*``, and the IETF's ``RateLimit`` and ``RateLimit-Policy``.

Only a caller's own limits are told, those of its key and its account: the rest would tell what others do.
Sources: OpenAI API reference, "Rate limits"; draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
        own = [(place, limit) for place, limit in enumerate(limits) if limit.whose in OWN]
        self._policy = ", ".join(
            f'"{limit.whose}-{limit.name}";q={min(limit.amount, _LONGEST)}{_UNITS[limit.unit]}{_window(limit)}'
            for _, limit in own
        )
        self._own = tuple((place, limit.span == "total") for place, limit in own)
        self._states = ", ".join(
            f'"{limit.whose}-{limit.name}";r=%d{"" if limit.span == "total" else ";t=%d"}' for _, limit in own
        )
        self._units = [
            (places, f"x-ratelimit-limit-{unit}", f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
            for unit in _TOLD_AS_OPENAI_DOES
            if (places := [place for place, limit in own if limit.unit == unit])
        ]

    def tell(self, standings: Sequence[Standing]) -> list[tuple[str, str]]:
        """The headers of an answer, from how the limits stand, in their order; of each unit, the tightest limit."""
        if not self._own:
            return []
        found: list[tuple[str, str]] = []
        for places, limit, remaining, reset in self._units:
            tightest = standings[places[0]]
            for place in places[1:]:
                tightest = min(tightest, standings[place], key=_left)
            found.append((limit, str(tightest.limit.amount)))
            found.append((remaining, str(tightest.remaining)))
            found.append((reset, duration(tightest.resets)))
        found.append(("ratelimit-policy", self._policy))
        found.append(("ratelimit", self._states % self._figures(standings)))
        return found

    def _figures(self, standings: Sequence[Standing]) -> tuple[int, ...]:
        figures: list[int] = []
        for place, endless in self._own:
            standing = standings[place]
            remaining = standing.limit.amount - standing.used
            figures.append(0 if remaining < 0 else remaining if remaining < _LONGEST else _LONGEST)
            if not endless:
                figures.append(math.ceil(standing.resets))
        return tuple(figures)


def duration(seconds: float) -> str:
    """As OpenAI writes durations: ``17ms``, ``1s``, ``6m0s``, ``1h2m3s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(min(seconds, _LONGEST))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s"


def _left(standing: Standing) -> float:
    return standing.remaining / standing.limit.amount if standing.limit.amount else 0.0


def _window(limit: Limit) -> str:
    return f";w={limit.span}" if isinstance(limit.span, int) and limit.span else ""
