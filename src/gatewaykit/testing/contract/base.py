"""What all tests of the contract stand on: what the author supplies, and the stage on which it is tried."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, ParamSpec

import pytest

from gatewaykit.protocols import Provider
from gatewaykit.testing.stage import Plan, Stage
from gatewaykit.testing.upstream import Script, Upstream, UpstreamAnswer, UpstreamRequest
from gatewaykit.types import ToolCall

P = ParamSpec("P")

TEXT = ("In ", "the ", "beginning ", "was ", "the ", "word.")
_LONGEST = 30.0

both_ways = pytest.mark.parametrize("way", ["stream", "complete"])


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test to its end, whatever plugins pytest has, and no longer than half a minute."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(_LONGEST):
                await test(*args, **kwargs)

        asyncio.run(limited())

    return run


class ContractBase(ABC):
    """Subclass it as ``class TestMine(ProviderContract)``, say how to make the provider and what its upstream answers.

    ``model`` is what calls ask for. ``secrets`` are credentials that :meth:`provider` gives to the provider: nothing of
    them may show. ``close_within`` is how many seconds the provider may take to let go of its upstream.

    A provider that has no upstream to speak to over HTTP says so in ``without_upstream``, and one without tools in
    ``without_tools``: a sentence that the report of the skipped tests shows.
    """

    model: ClassVar[str] = "test-model"
    secrets: ClassVar[Sequence[str]] = ()
    close_within: ClassVar[float] = 1.0
    without_upstream: ClassVar[str] = ""
    without_tools: ClassVar[str] = ""

    # What the author supplies

    @abstractmethod
    def provider(self, base_url: str) -> Provider:
        """A new provider that speaks to ``base_url`` (``http://127.0.0.1:PORT``), and does not try again by itself."""

    def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
        """The upstream's answer with this text.

        To a streamed request: each piece of text in a piece of the body of its own, as the real upstream writes it.
        """
        pytest.fail("override upstream_text, or say in without_upstream why there is no upstream")

    def upstream_tool_call(self, call: ToolCall, request: UpstreamRequest) -> UpstreamAnswer:
        """The upstream's answer that calls a tool; ``call.arguments`` is JSON text."""
        pytest.fail("override upstream_tool_call, or say in without_tools why there are no tools")

    def upstream_error(self, status: int, message: str, request: UpstreamRequest) -> UpstreamAnswer:
        """The upstream's refusal; by default in the shape that most have."""
        return UpstreamAnswer.of_json({"error": {"message": message}}, status)

    def upstream_aside(self, request: UpstreamRequest) -> UpstreamAnswer | None:
        """The answer to what the provider asks beside the model call: a token, the list of models.

        ``None`` means that ``request`` is the model call. By default all that is not POST is aside, and not found.
        """
        return None if request.method == "POST" else self.upstream_error(404, "There is nothing here.", request)

    # How it is done

    def _needs_upstream(self) -> None:
        if self.without_upstream:
            pytest.skip(self.without_upstream)

    def _needs_tools(self) -> None:
        if self.without_tools:
            pytest.skip(self.without_tools)

    def _handler(self, plan: Plan) -> Plan:
        def handler(request: UpstreamRequest) -> Script:
            aside = self.upstream_aside(request)
            return plan(request) if aside is None else aside.script()

        return handler

    def _upstream(self, plan: Plan) -> Upstream:
        return Upstream(self._handler(plan))

    @asynccontextmanager
    async def _any_stage(self, plan: Plan) -> AsyncIterator[Stage]:
        """A provider before an upstream that follows ``plan``, or a provider alone if it has no upstream."""
        async with self._upstream(plan) as upstream:
            provider = self._provider_at(upstream)
            try:
                yield Stage(provider, upstream, self.model)
            finally:
                await provider.aclose()

    @asynccontextmanager
    async def _stage(self, plan: Plan) -> AsyncIterator[Stage]:
        self._needs_upstream()
        async with self._any_stage(plan) as stage:
            yield stage

    def _provider_at(self, upstream: Upstream) -> Provider:
        return self.provider("" if self.without_upstream else upstream.url)

    def _says(self, *pieces: str) -> Plan:
        return lambda request: self.upstream_text(pieces or TEXT, request).script()

    def _refuses(self, status: int, headers: Mapping[str, str] | None = None) -> Plan:
        def plan(request: UpstreamRequest) -> Script:
            message = " ".join(["Refused:", *self.secrets])
            answer = self.upstream_error(status, message, request)
            return replace(answer, headers={**answer.headers, **(headers or {})}).script()

        return plan
