"""Traffic mirror: copies of requests for a target whose answers nobody sees.

A copy is sent in a task of its own: it takes none of the client's time, is in none of its books, and changes nothing of
its answer. When too many are on their way, further ones are left out and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from random import random

from msgspec import structs

from gatewaykit.builtin.router.router import MIRROR, ModelRouter
from gatewaykit.builtin.router.table import Mirror
from gatewaykit.errors import GatewayError
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import ANSWERED, MIRRORED, PROVIDER, RESULT
from gatewaykit.protocols import Provider, Transform
from gatewaykit.stepping import closing
from gatewaykit.types import Call, EmbeddingsRequest, Target

MOST_COPIES = 16
"""Copies on their way at the same time, in each process."""

logger = logging.getLogger(__name__)


class NoRetries:
    """A copy is not tried again."""

    def grant(self, call: Call, error: GatewayError) -> bool:
        """Never."""
        return False


class Mirrors(Transform):
    """Sends the copies for the table of ``router``, which keeps count; ``seconds`` is their time limit."""

    name = "mirror"
    tier = 1000
    on_error = "open"

    def __init__(self, router: ModelRouter, providers: Mapping[str, Provider], seconds: float) -> None:
        self._router = router
        self._providers = providers
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Whether no model has a mirror."""
        return not self._router.table.mirrored

    def on_request(self, call: Call) -> None:
        """Start a copy, if the model that was found has a mirror. It comes after all other transforms."""
        mirror: Mirror | None = call.state.pop(MIRROR, None)
        if mirror is None or random() >= mirror.share:
            return
        if len(self._tasks) >= MOST_COPIES:
            self._router.copies[mirror.target].left_out += 1
            return
        task = asyncio.get_running_loop().create_task(self._send(_copy(call, mirror.target), mirror.target))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def readings(self) -> Iterator[Reading]:
        """What became of the copies."""
        for target, copies in tuple(self._router.copies.items()):
            for result, count in (
                ("answered", copies.answered),
                ("failed", copies.failed),
                ("left_out", copies.left_out),
            ):
                yield Reading(MIRRORED, count, {PROVIDER: target.provider, ANSWERED: target.model, RESULT: result})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Copies that are on their way when the gateway stops are given up."""
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            mine = {task for task in self._tasks if task.get_loop() is loop}
            for task in mine:
                task.cancel()
            if mine:
                await asyncio.wait(mine)

    async def _send(self, call: Call, target: Target) -> None:
        provider, copies = self._providers[target.provider], self._router.copies[target]
        try:
            async with asyncio.timeout(self._seconds):
                if isinstance(call.request, EmbeddingsRequest):
                    await provider.embed(call, target)
                elif call.request.stream or await provider.complete(call, target) is None:
                    async with closing(provider.stream(call, target)) as events:
                        async for _ in events:
                            pass
            copies.answered += 1
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            copies.failed += 1
            logger.info("a copy for %s failed: %s", target, type(error).__name__)


def _copy(call: Call, target: Target) -> Call:
    """The request as it is now, and nothing that the call itself would notice."""
    return structs.replace(
        call,
        incoming=structs.replace(call.incoming, request_id=f"mirror-{call.request_id}"[:128]),
        targets=(target,),
        attempts=[],
        timings={},
        state={},
        raw_dialect=None,
        allowance=NoRetries(),
    )
