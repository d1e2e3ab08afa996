"""What is known of each target in this process: calls in flight, how long its answers take, its circuit breaker.

Routers order by it, attempts keep it, metrics and ``/api/admin/providers`` show it. Nothing of it is shared between
processes: each learns by its own calls.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator

from gatewaykit.attempts.breaker import Breaker, BreakerRules
from gatewaykit.attempts.retries import RetryBudget
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import (
    ANSWERED,
    ATTEMPTS_ACTIVE,
    BREAKER,
    BREAKER_COOLDOWN,
    BREAKER_OPENED,
    HEDGES,
    PROVIDER,
    RESULT,
)
from gatewaykit.types import Target

MOST_TARGETS = 4096
"""Targets that are remembered; clients can make up names of models."""

FADING = 10.0
"""Seconds in which what a latency says of now falls to a third."""

_SAMPLES = 256
_FEWEST_SAMPLES = 20
_SAMPLES_BETWEEN = 16
_LONGEST_REST = 60.0
_CIRCUITS = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class Latency:
    """How long a target takes, in seconds: a peak EWMA. A bad moment is believed at once, a good one by and by.

    ``peak`` was its value ``at`` the time of the last answer. So many calls are ``waiting`` for one now.
    """

    __slots__ = ("_new", "_quantiles", "_samples", "at", "peak", "waiting")

    def __init__(self) -> None:
        self.peak = 0.0
        self.at = 0.0
        self.waiting = 0
        self._samples: deque[float] | None = None
        self._quantiles: dict[float, float] = {}
        self._new = 0

    def add(self, seconds: float, now: float) -> None:
        """An answer came after ``seconds``."""
        if seconds >= self.peak:
            self.peak = seconds
        else:
            self.peak += (seconds - self.peak) * (1 - math.exp((self.at - now) / FADING))
        self.at = now
        if self._samples is not None:
            self._samples.append(seconds)
            self._new += 1

    def missed(self, seconds: float, now: float) -> None:
        """No answer came within ``seconds``: that is a bad moment, and no sample of answers."""
        self.peak, self.at = max(self.peak, seconds), now

    def expected(self, now: float) -> float:
        """What to expect now; 0 for a target of which nothing is known, and less the longer ago it was tried."""
        return self.peak * math.exp((self.at - now) / FADING)

    def quantile(self, share: float) -> float | None:
        """Seconds within which this share of the latest answers came; ``None`` while there are too few.

        Samples are kept from the first question on.
        """
        if self._samples is None:
            self._samples = deque(maxlen=_SAMPLES)
        if len(self._samples) < _FEWEST_SAMPLES:
            return None
        if self._new >= _SAMPLES_BETWEEN or share not in self._quantiles:
            ordered = sorted(self._samples)
            self._quantiles[share] = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
            self._new = 0
        return self._quantiles[share]


class TargetState:
    """One target. ``in_flight`` calls it has now, streams until their end; ``calls``, ``failures`` since the start.

    ``first_event`` is the latency of streams, ``whole`` that of answers in one piece. ``breaker`` is ``None`` where
    breakers are switched off. ``last_error`` is the code of the latest failure.
    """

    __slots__ = (
        "_rests_until", "breaker", "calls", "failures", "first_event", "in_flight", "kept", "last_error", "target",
        "whole",
    )  # fmt: skip

    def __init__(self, target: Target, rules: BreakerRules | None) -> None:
        self.target = target
        self.breaker = None if rules is None else Breaker(rules)
        self.in_flight = self.calls = self.failures = 0
        self.first_event = Latency()
        self.whole = Latency()
        self.last_error: str | None = None
        self.kept = False
        self._rests_until = 0.0

    @property
    def circuit(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        return "closed" if self.breaker is None else self.breaker.circuit

    @property
    def ready(self) -> bool:
        """Whether there is nothing to think about before a call is made."""
        return self._rests_until == 0.0 and (self.breaker is None or self.breaker.circuit == "closed")

    def admits(self, now: float) -> bool:
        """Whether its circuit lets a call through."""
        return self.breaker is None or self.breaker.admits(now)

    def opens_in(self, now: float) -> float:
        """Seconds until its circuit lets a call through; 0 if it does."""
        return 0.0 if self.breaker is None else self.breaker.wait(now)

    def rest(self, seconds: float, now: float) -> None:
        """It asked to be left alone for so long: meanwhile others go before it."""
        self._rests_until = max(self._rests_until, now + min(seconds, _LONGEST_REST))

    def resting(self, now: float) -> float:
        """Seconds that it still wants to be left alone."""
        if self._rests_until and now >= self._rests_until:
            self._rests_until = 0.0
        return max(0.0, self._rests_until - now)

    def latency(self, stream: bool) -> Latency:
        """That of streams, or of answers in one piece."""
        return self.first_event if stream else self.whole


class Targets:
    """The states of all targets, and what the attempts of all calls came to.

    ``fallbacks`` are calls that went on to another target, ``retries`` further tries at the same, ``hedges`` second
    targets that were started beside a silent first, ``overtaken`` those of them that were quicker. ``budget`` is
    that of further tries, ``hedging`` that of second targets.
    """

    def __init__(
        self,
        rules: BreakerRules | None = None,
        budget: RetryBudget | None = None,
        hedging: RetryBudget | None = None,
    ) -> None:
        self._rules = rules
        self.budget = budget or RetryBudget(0.0, 0)
        self.hedging = hedging or RetryBudget(0.0, 0)
        self._states: dict[str, TargetState] = {}
        self.fallbacks = self.retries = self.hedges = self.overtaken = 0

    def __getitem__(self, target: Target) -> TargetState:
        state = self._states.get(target.name)
        if state is None:
            if len(self._states) >= MOST_TARGETS:
                self._forget()
            state = self._states[target.name] = TargetState(target, self._rules)
        return state

    def keep(self, target: Target) -> TargetState:
        """The state of a target that the configuration names: it is never forgotten."""
        state = self[target]
        state.kept = True
        return state

    def let_go(self, target: Target) -> None:
        """The configuration does not name it any more: it is forgotten, or may be when its calls are over."""
        state = self[target]
        state.kept = False
        if not state.in_flight:
            del self._states[target.name]

    def all(self) -> Collection[TargetState]:
        """Those that have been asked, or are named by the configuration."""
        return tuple(self._states.values())

    def readings(self, knows: Callable[[str], bool]) -> Iterator[Reading]:
        """How the targets stand; of those that no configuration names, only models that somebody ``knows``."""
        now = time.monotonic()
        for state in self.all():
            target = state.target
            if not (state.kept or knows(target.model)):
                continue
            labels = {PROVIDER: target.provider, ANSWERED: target.model}
            yield Reading(ATTEMPTS_ACTIVE, state.in_flight, labels)
            yield Reading(BREAKER, _CIRCUITS[state.circuit], labels)
            yield Reading(BREAKER_OPENED, 0 if state.breaker is None else state.breaker.opened, labels)
            yield Reading(BREAKER_COOLDOWN, state.opens_in(now), labels)
        yield Reading(HEDGES, self.hedges, {RESULT: "begun"})
        yield Reading(HEDGES, self.overtaken, {RESULT: "quicker"})

    def _forget(self) -> None:
        """Drop the older half of what nobody waits for."""
        idle = [name for name, state in self._states.items() if not state.in_flight and not state.kept]
        for name in idle[: len(idle) // 2 + 1]:
            del self._states[name]


__all__ = ["Latency", "TargetState", "Targets"]
