"""Leaving: what is opened is closed, whoever goes first."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from gatewaykit.folding import fold
from gatewaykit.protocols import Provider
from gatewaykit.testing.contract.base import TEXT, ContractBase, both_ways, in_a_loop
from gatewaykit.testing.stage import Stage, Way, held_at_once, held_before_end
from gatewaykit.testing.upstream import Upstream
from gatewaykit.testing.waiting import until, within

_CLOSED = "the connection to the upstream is closed"
_LONGEST = 30.0


class LeavingTests(ContractBase):
    """Connections, tasks and event loops."""

    @in_a_loop
    async def test_closing_the_stream_closes_the_upstream(self) -> None:
        """When the client leaves in mid-stream, the connection to the upstream is closed at once."""
        async with self._stage(held_before_end(self._says())) as stage:
            events = stage.stream()
            await anext(events)
            await until(lambda: stage.upstream.held == 1)
            async with within(self.close_within, "aclose() of the stream returns"):
                await events.aclose()
            await until(lambda: stage.upstream.held == 0, self.close_within, _CLOSED)

    @both_ways
    @in_a_loop
    async def test_cancelling_the_wait_closes_the_upstream(self, way: Way) -> None:
        """When the client leaves before the first event, the connection to the upstream is closed at once."""
        async with self._stage(held_at_once(self._says())) as stage:
            task = asyncio.create_task(stage.answer(way))
            await until(lambda: stage.upstream.held == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: stage.upstream.held == 0, self.close_within, _CLOSED)

    @in_a_loop
    async def test_nothing_is_left_behind(self) -> None:
        """After one whole and one abandoned answer, aclose leaves no connection and no task."""
        before = asyncio.all_tasks()
        async with self._upstream(self._says()) as upstream:
            stage = Stage(self.provider(upstream.url), upstream, self.model)
            await fold(stage.stream())
            async with aclosing(stage.stream()) as events:
                await anext(events)
            await stage.provider.aclose()
            await until(lambda: upstream.live == 0, self.close_within, "all connections are closed")
        await until(lambda: asyncio.all_tasks() == before, self.close_within, "all tasks are over")

    def test_one_provider_serves_two_event_loops(self) -> None:
        """The same provider works again in a new event loop, closed in the first one or not."""
        upstream = self._upstream(self._says())
        try:
            provider = self._provider_at(upstream)
            for closes in (False, True, True):
                asyncio.run(self._talk_once(provider, upstream, closes=closes))
        finally:
            upstream.close()

    async def _talk_once(self, provider: Provider, upstream: Upstream, *, closes: bool) -> None:
        async with within(_LONGEST, "the answer is there"), upstream.serving():
            stage = Stage(provider, upstream, self.model)
            reply = await fold(stage.stream())
            assert reply.choices
            if not self.without_upstream:
                assert reply.choices[0].text == "".join(TEXT)
            if closes:
                await provider.aclose()
