"""Hedging: a second target beside a first that is silent. The first valid answer wins, and the other one is cancelled.

A stream is begun in one task and read in another: its iterator must not be bound to the task that began it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from msgspec import structs

from gatewaykit.attempts.course import Course
from gatewaykit.attempts.targets import Targets, TargetState
from gatewaykit.errors import GatewayError
from gatewaykit.types import Attempt, Call, Hedge, Target

Place: TypeAlias = tuple[Target, TargetState]
Once: TypeAlias = Callable[[Call, Target, TargetState], Awaitable[Any]]
CANCELLED, OVERTAKEN = "cancelled", "overtaken"


class Hedging:
    """Races of two targets, as many of them as the budget of ``targets`` allows."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._leaving: set[asyncio.Future[Any]] = set()

    async def race(self, once: Once, course: Course, first: Place) -> Any | None:
        """The answer of whichever target begins first; ``None`` when all have failed, which ``course`` knows then."""
        call = course.call
        self._targets.hedging.call()
        runners = [_Runner(once, call, first)]
        try:
            done, _ = await asyncio.wait({runners[0].task}, timeout=_delay(first, call.request.stream))
            if not done and (place := self._second(course)) is not None:
                runners.append(_Runner(once, call, place))
            while runners:
                await asyncio.wait({runner.task for runner in runners}, return_when=asyncio.FIRST_COMPLETED)
                for runner in [each for each in runners if each.task.done()]:
                    runners.remove(runner)
                    if (error := _failure(runner.task)) is None:
                        return self._won(call, runner, runners, first)
                    runner.report(call)
                    course.failed(runner.target, error)
            return None
        finally:
            for runner in runners:
                self._leave(runner, call, CANCELLED)

    def _second(self, course: Course) -> Place | None:
        """Who is to be started beside the first, if anybody."""
        place = course.beside(time.monotonic())
        if place is None:
            return None
        if not self._targets.hedging.take():
            course.left.insert(0, place[0])
            return None
        self._targets.hedges += 1
        return place

    def _won(self, call: Call, winner: _Runner, others: list[_Runner], first: Place) -> Any:
        for other in others:
            self._leave(other, call, OVERTAKEN)
        others.clear()
        winner.report(call)
        winner.answers(call)
        self._targets.overtaken += winner.target is not first[0]
        return winner.task.result()

    def _leave(self, runner: _Runner, call: Call, why: str) -> None:
        """Cancel it, and close what it opens all the same. Nobody waits for that."""
        runner.leave(call, why)
        self._leaving.add(runner.task)
        runner.task.add_done_callback(self._dispose)
        runner.task.cancel()

    def _dispose(self, task: asyncio.Future[Any]) -> None:
        """Close a stream that began in spite of all."""
        self._leaving.discard(task)
        if task.cancelled() or task.exception() is not None:
            return
        close = getattr(task.result(), "close", None)
        if close is not None:
            closing = asyncio.ensure_future(close())
            self._leaving.add(closing)
            closing.add_done_callback(self._leaving.discard)


class _Runner:
    """One target in the race, in a task and with attempts of its own."""

    def __init__(self, once: Once, call: Call, place: Place) -> None:
        self.target, self._state = place
        self._began = time.monotonic()
        self._base = call.retried
        self._call = structs.replace(call, attempts=[])
        if self._state.breaker is not None:
            self._state.breaker.claim(self._began)
        self.task = asyncio.ensure_future(once(self._call, *place))

    def report(self, call: Call) -> None:
        """Add what came of it to the attempts of ``call``."""
        call.attempts += self._call.attempts
        call.retried += self._call.retried - self._base

    def answers(self, call: Call) -> None:
        """What it says to the client is said in the answer to ``call``."""
        call.answer_headers = self._call.answer_headers

    def leave(self, call: Call, why: str) -> None:
        """It did not come to its end. How long it was silent is worth knowing, too: its answer would take longer."""
        now = time.monotonic()
        if not self.task.done():
            self._call.attempts.append(Attempt(self.target, now - self._began, why))
        for attempt in self._call.attempts:
            attempt.error = attempt.error or why  # it may have begun in the same moment, too late
        self.report(call)
        if why == OVERTAKEN:
            self._state.latency(call.request.stream).add(now - self._began, now)


def _failure(task: asyncio.Future[Any]) -> GatewayError | None:
    """The error of a target; anything else that ended its task is raised."""
    error = task.exception()
    if error is None or isinstance(error, GatewayError):
        return error
    raise error


def _delay(first: Place, stream: bool) -> float:
    target, state = first
    hedge = target.hedge or Hedge(0.0)
    known = None if hedge.quantile is None else state.latency(stream).quantile(hedge.quantile)
    return hedge.seconds if known is None else known


__all__ = ["CANCELLED", "OVERTAKEN", "Hedging"]
