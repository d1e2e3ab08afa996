"""Who goes first: each strategy is compiled into one function from a call to its targets in order.

The first and the second are chosen; the others follow as they stand, for they are hardly ever asked.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import exp
from random import random
from typing import TypeAlias

from gatewaykit.attempts.targets import FADING, TargetState
from gatewaykit.builtin.router.sticky import Ring, conversation
from gatewaykit.types import Call, Target

Order: TypeAlias = Callable[[Call], Sequence[Target]]
_UNKNOWN = 1e-6
"""Expected seconds of a target of which nothing is known: it is tried soon."""

_TRIED = 1e6
"""The same while one call tries it: others go elsewhere, as far as there is anybody else."""


def constant(targets: Sequence[Target]) -> Order:
    """Always in this order."""
    fixed = tuple(targets)
    return lambda call: fixed


def weighted(targets: Sequence[Target], weights: Sequence[float]) -> Order:
    """At random, by weight."""
    sums = list(accumulate(weights))
    total, last = sums[-1], len(sums) - 1

    def order(call: Call) -> Sequence[Target]:
        first = min(bisect_right(sums, random() * total), last)
        weight = weights[first]
        if weight >= total:
            return led(targets, first)
        place = random() * (total - weight)
        if place >= sums[first] - weight:
            place += weight
        return led(targets, first, min(bisect_right(sums, place), last))

    return order


def sticky(targets: Sequence[Target], weights: Sequence[float]) -> Order:
    """By conversation."""
    ring = Ring(targets, weights)
    return lambda call: led(targets, *ring.owners(conversation(call)))


def least_latency(targets: Sequence[Target], states: Sequence[TargetState]) -> Order:
    """By what an answer is expected to take: the peak EWMA of its latency, times the calls that wait for it already.

    What is long ago says that a target is worth a try, not that it is worth all calls: while one waits for its answer
    nothing fades.
    """
    streamed = [(state, state.first_event) for state in states]
    in_one_piece = [(state, state.whole) for state in states]

    def order(call: Call) -> Sequence[Target]:
        now = time.monotonic()
        # As Latency.expected, spelled out: with many targets most of the time would go into calling it.
        costs = [
            (
                (latency.peak or _TRIED)
                if latency.waiting
                else (latency.peak * exp((latency.at - now) / FADING) + _UNKNOWN)
            )
            * (state.in_flight + 1)
            for state, latency in (streamed if call.request.stream else in_one_piece)
        ]
        return _best(targets, costs)

    return order


def least_in_flight(targets: Sequence[Target], states: Sequence[TargetState], weights: Sequence[float]) -> Order:
    """By the calls in flight, for each unit of weight; those that are alike take turns at random."""
    shared = [(state, 1 / weight if weight else math.inf) for state, weight in zip(states, weights, strict=True)]
    # Twice in a row, so that any turn of the targets is a slice.
    twice, count = (*targets, *targets), len(targets)

    def order(call: Call) -> Sequence[Target]:
        costs = [(state.in_flight + 1) * share for state, share in shared]
        start = int(random() * count)
        return _best(twice[start : start + count], costs[start:] + costs[:start])

    return order


def in_turn(groups: Sequence[Order]) -> Order:
    """One group after the other."""
    if len(groups) == 1:
        return groups[0]

    def order(call: Call) -> Sequence[Target]:
        found: list[Target] = []
        for group in groups:
            found += group(call)
        return found

    return order


def led(targets: Sequence[Target], first: int, second: int | None = None) -> Sequence[Target]:
    """``targets``, with those at the positions ``first`` and ``second`` before the others."""
    others = list(targets)
    if second is None or second == first:
        return [others.pop(first), *others]
    for position in (first, second) if first > second else (second, first):
        del others[position]
    return [targets[first], targets[second], *others]


def _best(targets: Sequence[Target], costs: list[float]) -> Sequence[Target]:
    first = costs.index(min(costs))
    if len(costs) == 1:
        return targets
    costs[first] = math.inf
    return led(targets, first, costs.index(min(costs)))
