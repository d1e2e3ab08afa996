"""Waiting for what another task, thread or machine does, with a deadline and never for a fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_STEP = 0.002


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """The block takes no longer than ``seconds``. Raises :class:`TimeoutError` that says ``what`` did not happen."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"not within {seconds:g} s: {what}") from error


async def until(condition: Callable[[], object], seconds: float = 30.0, what: str = "the condition is true") -> None:
    """Return as soon as ``condition()`` is true. Raises :class:`TimeoutError` when it is not within ``seconds``."""
    async with within(seconds, what):
        while not condition():  # noqa: ASYNC110 - conditions of any kind have no event
            await asyncio.sleep(_STEP)
