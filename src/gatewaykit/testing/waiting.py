"""Waiting for what another task, thread or machine does, with a deadline and never for a fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_STEP = 0.002


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Return as soon as ``condition()`` is true. Raises :class:`TimeoutError` when it is not within ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of any kind have no event
            await asyncio.sleep(_STEP)
