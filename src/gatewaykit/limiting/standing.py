"""How a limit stands, worked out in one way for every store that hands over what counts."""

from __future__ import annotations

import math

from gatewaykit.limits import Limit, Standing

_SOON = 1.0
"""Nobody knows when a call ends: after so many seconds it is worth asking for its place."""


def standing(limit: Limit, amounts: dict[float, int], used: int, asked: int, now: float) -> Standing:
    """How ``limit`` stands at ``now``, and when ``asked`` may fit.

    ``amounts`` is what counts, by the unix time until which it does, earliest first; ``used`` is the sum.
    """
    fits = used + asked <= limit.amount
    if limit.unit == "concurrency":
        return Standing(limit, used, 0.0, 0.0 if fits else _SOON if asked <= limit.amount else math.inf)
    resets = _resets(amounts, now) if used else 0.0
    return Standing(limit, used, resets, 0.0 if fits else _room_in(limit, amounts, used + asked, now))


def _resets(amounts: dict[float, int], now: float) -> float:
    for until in reversed(amounts):
        if amounts[until]:
            return until - now
    return 0.0


def _room_in(limit: Limit, amounts: dict[float, int], wanted: int, now: float) -> float:
    for until, amount in amounts.items():
        wanted -= amount
        if wanted <= limit.amount:
            return until - now
    return math.inf
