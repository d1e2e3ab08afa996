"""What the contract's tests play on: a provider before its upstream, and the mishaps that can befall an answer."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pytest

from gatewaykit.errors import GatewayError, ProviderBadAnswer
from gatewaykit.folding import Folder, fold, one_by_one
from gatewaykit.protocols import Provider
from gatewaykit.testing.calls import make_call
from gatewaykit.testing.upstream import Script, Step, Upstream, UpstreamRequest
from gatewaykit.types import Call, Event, Reply, Target

Way: TypeAlias = Literal["stream", "complete"]
Plan: TypeAlias = Callable[[UpstreamRequest], Script]
_HEAD_AND_END = 2
_LEAST_PIECES = 3


class Break(enum.Enum):
    """How a stream ends too early."""

    CLOSED = "the connection is closed"
    RESET = "the connection is reset"
    EARLY_END = "the body ends as it should, and the answer is not whole"


BREAKS = tuple(Break)


@dataclass(frozen=True)
class Stage:
    """A provider, the upstream that it speaks to, and the model that is asked for."""

    provider: Provider
    upstream: Upstream
    model: str

    @property
    def target(self) -> Target:
        """The model at this provider."""
        return Target(self.provider.name, self.model)

    def call(self, text: str = "Hello", **request: Any) -> Call:
        """A streamed call; see :func:`~gatewaykit.testing.make_call`."""
        return make_call(text, model=self.model, **request)

    def stream(self, call: Call | None = None) -> AsyncGenerator[Event, None]:
        """The provider's stream; it must be one that can be closed."""
        events = self.provider.stream(call or self.call(), self.target)
        assert hasattr(events, "aclose"), "the stream has no aclose: write an 'async def' with 'yield'"
        return one_by_one(events)

    async def answer(self, way: Way, **request: Any) -> Reply:
        """The answer by ``stream`` or ``complete``; a provider without the latter is streamed, as in a gateway."""
        call = self.call(stream=way == "stream", **request)
        reply = None if way == "stream" else await self.provider.complete(call, self.target)
        return await fold(self.stream(call)) if reply is None else reply

    async def failure(self, way: Way, **request: Any) -> GatewayError:
        """The error in place of an answer; no event may come before it, or no other target could be tried."""
        with pytest.raises(GatewayError) as caught:
            await self._first(self.call(stream=way == "stream", **request))
        return caught.value

    async def collect(self, folder: Folder) -> None:
        """Add a stream's events to ``folder``. Raises as the gateway does when the provider stops before its end."""
        async with aclosing(self.stream()) as events:
            async for event in events:
                folder.add(event)
        folder.reply()

    async def _first(self, call: Call) -> None:
        reply = None if call.chat.stream else await self.provider.complete(call, self.target)
        if reply is None:
            async with aclosing(self.stream(call)) as events:
                first = await anext(events, None)
            if first is None:
                raise ProviderBadAnswer(detail="the stream has no event")  # as the gateway does
            pytest.fail(f"{first} came where an error was due: it must come before the first event")
        pytest.fail(f"an answer came where an error was due: {reply}")

    def model_call(self) -> UpstreamRequest:
        """The last request that came by POST."""
        return [request for request in self.upstream.requests if request.method == "POST"][-1]


def held_at_once(plan: Plan) -> Plan:
    """The upstream waits before its first byte."""
    return lambda request: [Step.HOLD, *plan(request)]


def held_before_end(plan: Plan) -> Plan:
    """The upstream waits before the last piece of its body."""

    def held(request: UpstreamRequest) -> Script:
        head, *pieces, end = _in_pieces(plan(request))
        return [head, *pieces[:-1], Step.HOLD, pieces[-1], end]

    return held


def broken_off(plan: Plan, how: Break) -> Plan:
    """The upstream stops in the middle of its body."""
    last: dict[Break, Script] = {Break.CLOSED: [Step.CLOSE], Break.RESET: [Step.RESET]}

    def broken(request: UpstreamRequest) -> Script:
        head, *pieces, end = _in_pieces(plan(request))
        return [head, *pieces[: len(pieces) // 2], *last.get(how, [end])]

    return broken


def instead(script: Script) -> Plan:
    """The upstream does this, whatever is asked."""
    return lambda request: script


def _in_pieces(script: Script) -> Script:
    assert len(script) >= _LEAST_PIECES + _HEAD_AND_END, (
        "upstream_text must answer a streamed request in pieces, each piece of text in one of its own"
    )
    return script
