"""The circuit breaker of one target: closed while it answers, open while it is left alone, half-open while probed.

Every method takes the time, ``time.monotonic()`` in a gateway, so that its behaviour can be shown for any course of
time. State is that of one process.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

SLICES = 10
"""The window moves on by this many steps."""

Circuit: TypeAlias = Literal["closed", "open", "half_open"]


class BreakerRules(Struct, frozen=True):
    """When a circuit opens and closes; see ``[breaker]``. ``slow`` is in seconds, infinite for never."""

    window: float = 30.0
    calls: int = 20
    error_share: float = 0.5
    slow: float = float("inf")
    slow_share: float = 0.5
    cooldown: float = 5.0
    probes: int = 2


class Breaker:
    """Counts what came of calls within the last ``window`` seconds, and opens when too many failed or were slow.

    Open, it admits nobody for ``cooldown`` seconds; then one call at a time, the probe. A probe of which nothing is
    heard counts as lost after another ``cooldown``. ``opened`` counts how often it opened.
    """

    __slots__ = ("_counts", "_number", "_passed", "_ring", "_rules", "_step", "_until", "circuit", "opened")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._step = rules.window / SLICES
        self.circuit: Circuit = "closed"
        self.opened = 0
        self._until = 0.0
        self._passed = 0
        self._forget()

    def admits(self, now: float) -> bool:
        """Whether a call may be made now."""
        return self.circuit == "closed" or now >= self._until

    def wait(self, now: float) -> float:
        """Seconds until a call may be made."""
        return 0.0 if self.admits(now) else self._until - now

    def claim(self, now: float) -> None:
        """A call that was admitted is about to be made: until it begins no other one is the probe."""
        if self.circuit != "closed":
            self._until = now + self._rules.cooldown

    def begin(self, now: float) -> bool:
        """A call is made that was admitted. Returns whether it is a probe, to be told to :meth:`end`."""
        if self.circuit == "closed":
            return False
        if self.circuit == "open":
            self.circuit = "half_open"
            self._passed = 0
        self._until = now + self._rules.cooldown
        return True

    def end(self, now: float, *, failed: bool, seconds: float = 0.0, probe: bool = False) -> None:
        """A call began to answer, or failed, after ``seconds``. What began before the circuit opened says nothing."""
        slow = seconds > self._rules.slow
        if self.circuit == "closed":
            self._count(now, failed, slow)
        elif probe and self.circuit == "half_open":
            self._judge(now, good=not (failed or slow))

    def drop(self, *, probe: bool) -> None:
        """A call came to no end of its own: nothing was learnt, and another one may be the probe."""
        if probe and self.circuit == "half_open":
            self._until = 0.0

    def hope(self, now: float) -> None:
        """There is reason to think that it is well: let the next call be the probe."""
        if self.circuit == "open":
            self._until = min(self._until, now)

    def broke(self, now: float) -> None:
        """A call that had begun to answer failed after all."""
        if self.circuit == "closed":
            self._turn(now)
            self._counts[1] += 1
            self._ring[self._number % SLICES][1] += 1
            self._conclude(now)

    def shares(self, now: float) -> tuple[int, int, int]:
        """Calls within the window, how many of them failed, and how many were slow."""
        self._turn(now)
        calls, failed, slow = self._counts
        return calls, failed, slow

    def _forget(self) -> None:
        self._number = -1
        self._counts = [0, 0, 0]
        self._ring = [[0, 0, 0] for _ in range(SLICES)]

    def _count(self, now: float, failed: bool, slow: bool) -> None:
        if int(now / self._step) != self._number:
            self._turn(now)
        counts, cell = self._counts, self._ring[self._number % SLICES]
        counts[0] += 1
        cell[0] += 1
        if failed:
            counts[1] += 1
            cell[1] += 1
        elif slow:
            counts[2] += 1
            cell[2] += 1
        else:
            return
        self._conclude(now)

    def _turn(self, now: float) -> None:
        """Let those slices go that have left the window."""
        number = int(now / self._step)
        for gone in range(max(self._number, number - SLICES) + 1, number + 1):
            cell = self._ring[gone % SLICES]
            for kind in range(3):
                self._counts[kind] -= cell[kind]
                cell[kind] = 0
        self._number = max(self._number, number)

    def _conclude(self, now: float) -> None:
        calls, failed, slow = self._counts
        rules = self._rules
        if calls >= rules.calls and (failed >= calls * rules.error_share or slow >= calls * rules.slow_share):
            self._open(now)

    def _judge(self, now: float, *, good: bool) -> None:
        if not good:
            self._open(now)
            return
        self._passed += 1
        self._until = 0.0
        if self._passed >= self._rules.probes:
            self.circuit = "closed"

    def _open(self, now: float) -> None:
        self.circuit = "open"
        self.opened += 1
        self._until = now + self._rules.cooldown
        self._forget()


__all__ = ["Breaker", "BreakerRules", "Circuit"]
