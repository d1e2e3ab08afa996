"""The circuit breaker: what fails again and again is left alone, until it answers a question of the gateway's own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from msgspec import Struct

from gatewaykit.errors import Unavailable

logger = logging.getLogger(__name__)


class Counters(Struct):
    """What happened since the process began.

    ``opened`` and ``closed``: how often the breaker did. ``failed``: calls that got no answer, or an error.
    ``refused``: calls that were not tried because it was open. ``crowded``: calls for which no connection became free
    in time; the breaker takes no notice of them.
    """

    opened: int = 0
    closed: int = 0
    failed: int = 0
    refused: int = 0
    crowded: int = 0


class Breaker:
    """Opens after ``failures`` in a row; then ``probe`` is tried every ``cooldown`` seconds until it does not raise.

    The waits vary by a quarter, so that the processes of a gateway do not come back all at once. Lives in one event
    loop. ``name`` is for the log, which gets one line when it opens and one when it closes.
    """

    def __init__(
        self, name: str, failures: int, cooldown: float, probe: Callable[[], Awaitable[object]], counters: Counters
    ) -> None:
        self.open = False
        self._name = name
        self._failures = failures
        self._cooldown = cooldown
        self._probe = probe
        self._counters = counters
        self._row = 0
        self._next = 0.0
        self._probing: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raises :class:`~gatewaykit.errors.Unavailable` while it is open."""
        if self.open:
            self._counters.refused += 1
            wait = max(1.0, self._next - asyncio.get_running_loop().time())
            raise Unavailable(retry_after=wait, detail="redis: left alone after failures")

    def succeeded(self) -> None:
        """A call was answered."""
        self._row = 0

    def failed(self, reason: str) -> None:
        """A call was not answered, for ``reason``."""
        self._counters.failed += 1
        self._row += 1
        if self._row >= self._failures and not self.open:
            self.open = True
            self._counters.opened += 1
            logger.warning("%s: %s; it is left alone and tried every %g s", self._name, reason, self._cooldown)
            self._probing = asyncio.get_running_loop().create_task(self._until_answered())

    async def aclose(self) -> None:
        """End the probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _until_answered(self) -> None:
        while self.open:
            pause = self._cooldown * random.uniform(0.75, 1.25)
            self._next = asyncio.get_running_loop().time() + pause
            await asyncio.sleep(pause)
            try:
                await self._probe()
            except Exception:  # noqa: BLE001, S112 - whatever it was, it is tried again
                continue
            self._row = 0
            self.open = False
            self._counters.closed += 1
            logger.warning("%s: it answers again", self._name)
