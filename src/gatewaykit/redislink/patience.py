"""A time limit for others, which this process' own slowness does not use up."""

from __future__ import annotations

import asyncio
from types import TracebackType

_STEPS = 5
_GRACE = 0.002


class Patience:
    """``async with Patience(seconds)``: :class:`TimeoutError` after so many seconds in which the event loop ran.

    Time passes in steps. If the event loop stands still for long, that is one step: what arrived meanwhile can be read
    before the next. The last word has a moment more, since timers may come before what is there to be read.
    """

    __slots__ = ("_left", "_limit", "_loop", "_step", "_timer")

    def __init__(self, seconds: float) -> None:
        self._step = seconds / _STEPS
        self._left = _STEPS
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._step, self._pass)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _pass(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._timer = self._loop.call_later(self._step, self._pass)
        else:
            self._limit.reschedule(self._loop.time() + _GRACE)
