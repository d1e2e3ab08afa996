"""Telling those who want to know that an attempt begins: only where there are any do providers get a companion."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from gatewaykit.folding import fold
from gatewaykit.protocols import Provider
from gatewaykit.stepping import closing
from gatewaykit.types import Call, Event, Model, Reply, Target

OnAttempt = Callable[[Call, Target], None]


def attended(providers: Mapping[str, Provider], hooks: Sequence[OnAttempt]) -> Mapping[str, Provider]:
    """``providers``, each of whose attempts is told to ``hooks`` first; themselves where there are no hooks."""
    return {name: _Attended(provider, hooks) for name, provider in providers.items()} if hooks else providers


class _Attended(Provider):
    """A provider that is watched when it begins."""

    def __init__(self, provider: Provider, hooks: Sequence[OnAttempt]) -> None:
        self.name = provider.name
        self._provider = provider
        self._hooks = tuple(hooks)

    def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self._tell(call, target)
        return self._provider.stream(call, target)

    async def complete(self, call: Call, target: Target) -> Reply | None:
        """An answer in one piece, folded here if need be: an attempt is told once."""
        self._tell(call, target)
        reply = await self._provider.complete(call, target)
        if reply is not None:
            return reply
        async with closing(self._provider.stream(call, target)) as events:
            return await fold(events)

    async def models(self) -> Sequence[Model]:
        return await self._provider.models()

    async def aclose(self) -> None:
        await self._provider.aclose()

    def _tell(self, call: Call, target: Target) -> None:
        for hook in self._hooks:
            hook(call, target)
