"""How much is tried again: a budget that is a share of the traffic, so that retries cannot make an outage worse."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from msgspec import Struct

SPAN = 10.0
"""Seconds in which the reserve of a budget comes back."""

_DEEPEST = 10
RETRY_COUNT = "x-stainless-retry-count"
"""The header in which the official SDKs tell how often they have tried this request before."""


_stamina: ModuleType | None = None


async def stamina() -> ModuleType:
    """The library, which is imported by the first retry of the process, in a thread: with the hooks that it has for
    others' logs and metrics it takes tens of milliseconds, in which the event loop would serve nobody.
    """
    global _stamina
    if _stamina is None:
        _stamina = await asyncio.to_thread(_import)
    return _stamina


def _import() -> ModuleType:
    import_module("stamina.instrumentation").get_on_retry_hooks()
    return import_module("stamina")


class RetryRules(Struct, frozen=True):
    """How often a call is tried again, and how long it waits before; see ``[retries]``. Times are seconds."""

    attempts: int = 2
    backoff: float = 0.25
    longest: float = 10.0

    def pause(self, number: int, asked: float | None) -> float | None:
        """The wait before further try ``number``, from 0: full jitter, or what the provider ``asked`` for and a little
        more, so that not all come back at once. ``None``: it asked for too much.
        """
        if asked is not None and asked > self.longest:
            return None
        jitter = random.uniform(0.0, min(self.longest, self.backoff * 2**number))
        return jitter if asked is None else asked + min(jitter, self.backoff)


class RetryBudget:
    """Further tries that all calls together may make: ``share`` of their number, and ``reserve`` in any ten seconds.

    A client that says that it tries again itself uses the budget, too. ``taken`` and ``refused`` count what was asked
    for; ``balance`` is what is left.
    """

    __slots__ = ("_at", "_clock", "_most", "_reserve", "_share", "balance", "refused", "taken")

    def __init__(self, share: float, reserve: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._reserve = reserve
        self._clock = clock
        self._most = float(max(1, reserve) * _DEEPEST)
        self._at = clock()
        self.balance = float(reserve)
        self.taken = self.refused = 0

    def call(self, retry_count: str | None = None) -> None:
        """A call came; ``retry_count`` is what its client says of its own retries."""
        if retry_count is not None and retry_count not in {"0", ""}:
            self._come_back()
            self.balance = max(0.0, self.balance - 1.0)
        elif self.balance < self._most:
            self.balance += self._share

    def take(self) -> bool:
        """Whether there is one more try in it, which is taken then."""
        self._come_back()
        if self.balance < 1.0:
            self.refused += 1
            return False
        self.balance -= 1.0
        self.taken += 1
        return True

    def _come_back(self) -> None:
        """What the reserve gave since it was last looked at."""
        now = self._clock()
        if self.balance < self._reserve:
            self.balance = min(self._reserve, self.balance + (now - self._at) * self._reserve / SPAN)
        self._at = now


__all__ = ["RETRY_COUNT", "RetryBudget", "RetryRules", "stamina"]
