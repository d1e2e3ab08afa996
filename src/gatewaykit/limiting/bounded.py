"""A store that may hang, for callers who may not: an answer in time or none, and a rest after several of none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from gatewaykit.errors import Unanswered, Unavailable
from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limits import Limit, Standing

T = TypeVar("T")
FAILURES = 5
COOLDOWN = 5.0
logger = logging.getLogger(__name__)


class BoundedBackend(Backend):
    """``remote``, which gets ``patience`` seconds for each answer.

    After :data:`FAILURES` in a row it is left alone: for :data:`COOLDOWN` seconds everybody is told so at once, then
    one caller tries it again. ``name`` is for the log, which gets one line when that begins and one when it ends.
    """

    def __init__(self, remote: Backend, *, name: str, patience: float) -> None:
        self.lease = remote.lease
        self._remote = remote
        self._name = name
        self._patience = patience
        self._row = 0
        self._next_try = 0.0

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing."""
        return await self._asked(self._remote.reserve(hold, charges))

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        await self._asked(self._remote.settle(hold, charges))

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on."""
        await self._asked(self._remote.renew(holds))

    async def seed(self, limit: Limit, used: int, begins: float) -> None:
        """Begin a calendar period."""
        await self._asked(self._remote.seed(limit, used, begins))

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand."""
        return await self._asked(self._remote.standings(limits))

    async def _asked(self, question: Coroutine[Any, Any, T]) -> T:
        now = time.monotonic()
        if now < self._next_try:
            question.close()
            raise Unavailable(retry_after=max(1.0, self._next_try - now), detail=f"{self._name}: left alone")
        if self._row >= FAILURES:
            self._next_try = now + COOLDOWN  # for everybody but this caller
        try:
            async with asyncio.timeout(self._patience):
                answer = await question
        except TimeoutError:
            self._failed()
            raise Unanswered(retry_after=1.0, detail=f"{self._name}: no answer in {self._patience:g} s") from None
        except Unavailable:
            self._failed()
            raise
        self._answered()
        return answer

    def _failed(self) -> None:
        self._row += 1
        if self._row >= FAILURES:
            self._next_try = time.monotonic() + COOLDOWN
        if self._row == FAILURES:
            logger.warning("%s does not count limits: it is left alone and tried every %g s", self._name, COOLDOWN)

    def _answered(self) -> None:
        if self._row >= FAILURES:
            logger.warning("%s counts limits again", self._name)
        self._row, self._next_try = 0, 0.0
