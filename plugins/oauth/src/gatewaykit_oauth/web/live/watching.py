"""Taking samples while the gateway runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gatewaykit.errors import GatewayError
from gatewaykit.metrics.names import WORKERS
from gatewaykit.protocols import Tally

from .samples import SECONDS, Sample, Samples
from .sums import Sums

logger = logging.getLogger(__name__)


@asynccontextmanager
async def watching(tally: Tally, samples: Samples) -> AsyncIterator[None]:
    """Take samples until the block is left."""
    task = asyncio.create_task(_watch(tally, samples), name="gatewaykit-samples")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(tally: Tally, samples: Samples) -> None:
    while True:
        now = time.monotonic()
        if samples.take_turn(now):
            await _take(tally, samples, now)
        await asyncio.sleep(SECONDS - time.monotonic() % SECONDS)


async def _take(tally: Tally, samples: Samples, now: float) -> None:
    try:
        sums = Sums(await tally.read())
    except GatewayError as error:
        logger.info("no sample is taken: %s", error.detail or error.message)
    else:
        if sums.has(WORKERS):
            samples.keep(Sample.of(sums), now)
