"""The last quarter of an hour: a few sums, every ten seconds, in memory that all workers share.

Workers are forked when the gateway is put together, so an anonymous map made by then is the same for all of them,
and for those that take the place of a dead one. Whichever comes first in a turn takes the sample.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from itertools import islice
from typing import Self

from msgspec import Struct

from gatewaykit.metrics.names import (
    CALLS,
    ERROR,
    FIRST,
    HTTP_ACTIVE,
    LONG,
    OUTBOX_DEPTH,
    OUTCOME,
    QUEUE_LENGTH,
    REFUSALS,
    SERVER_DURATION,
    SERVER_FIRST_TOKEN,
    SPEND,
    STREAMS,
    TOKEN_TYPE,
    TOKENS_USED,
)

from .sums import Sums

SECONDS = 10.0
LENGTH = 91
"""Samples that are kept: a quarter of an hour between the first and the last."""

OUTCOMES = ("done", "refused", "blocked", "client_gone", "provider_error", "timeout", "unavailable", "failed")
_PLAIN = 8


class Sample(Struct, frozen=True):
    """What is drawn, at one moment. ``calls`` are by :data:`OUTCOMES`; ``answers`` and ``firsts`` are the buckets of
    the times of good answers and of first tokens.
    """

    calls: tuple[float, ...]
    given: float
    made: float
    spend: float
    refused: float
    active: float
    streams: float
    waiting: float
    outbox: float
    answers: tuple[float, ...]
    firsts: tuple[float, ...]

    @classmethod
    def of(cls, sums: Sums) -> Self:
        """The moment of these sums."""
        outcomes = sums.by(CALLS, OUTCOME)
        return cls(
            calls=tuple(outcomes.get((name,), 0.0) for name in OUTCOMES),
            given=sums.total(TOKENS_USED, {TOKEN_TYPE: "input"}),
            made=sums.total(TOKENS_USED, {TOKEN_TYPE: "output"}),
            spend=sums.total(SPEND),
            refused=sums.total(REFUSALS),
            active=sums.total(HTTP_ACTIVE),
            streams=sums.total(STREAMS),
            waiting=sums.total(QUEUE_LENGTH),
            outbox=sums.total(OUTBOX_DEPTH),
            answers=sums.buckets(SERVER_DURATION, {ERROR: ""}),
            firsts=sums.buckets(SERVER_FIRST_TOKEN),
        )

    def packed(self) -> tuple[float, ...]:
        """All its numbers, in their order."""
        plain = (self.given, self.made, self.spend, self.refused, self.active, self.streams, self.waiting, self.outbox)
        return (*self.calls, *plain, *self.answers, *self.firsts)

    @classmethod
    def unpacked(cls, numbers: Sequence[float]) -> Self:
        """The opposite of :meth:`packed`."""
        rest = iter(numbers)
        calls = tuple(islice(rest, len(OUTCOMES)))
        given, made, spend, refused, active, streams, waiting, outbox = islice(rest, _PLAIN)
        answers, firsts = tuple(islice(rest, len(LONG) + 1)), tuple(rest)
        return cls(calls, given, made, spend, refused, active, streams, waiting, outbox, answers, firsts)


WIDTH = len(OUTCOMES) + _PLAIN + len(LONG) + 1 + len(FIRST) + 1


class Samples:
    """A ring. ``now`` is the machine's monotonic clock, which its processes share."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, 8 * (LENGTH * (WIDTH + 2)))).cast("d")

    def take_turn(self, now: float) -> bool:
        """Whether it is up to the caller to take the sample of this moment. Two that ask at once may both be told so;
        then they write the same.
        """
        number, begins = self._place(now)
        if self._memory[begins] == number:
            return False
        self._memory[begins] = number
        return True

    def keep(self, sample: Sample, now: float) -> None:
        """Keep it, in place of the oldest."""
        number, begins = self._place(now)
        ends = begins + WIDTH + 1
        self._memory[ends] = 0.0
        for place, value in enumerate(sample.packed(), begins + 1):
            self._memory[place] = value
        self._memory[begins] = self._memory[ends] = number

    def all(self, now: float) -> list[tuple[int, Sample]]:
        """Those of the last quarter of an hour with their age in turns, oldest first. What is being written is passed
        over.
        """
        last, _ = self._place(now)
        found = []
        for age in range(LENGTH - 1, -1, -1):
            number = last - age
            begins = number % LENGTH * (WIDTH + 2)
            row = self._memory[begins : begins + WIDTH + 2].tolist()
            if number > 0 and row[0] == row[-1] == number:
                found.append((age, Sample.unpacked(row[1:-1])))
        return found

    def _place(self, now: float) -> tuple[int, int]:
        """The number of the turn, never 0, and where its row begins."""
        number = int(now // SECONDS) + 1
        return number, number % LENGTH * (WIDTH + 2)
