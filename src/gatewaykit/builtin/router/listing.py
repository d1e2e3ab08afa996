"""What the providers say they have: lists of models, fetched in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from gatewaykit.errors import GatewayError
from gatewaykit.protocols import Provider
from gatewaykit.types import Model

logger = logging.getLogger(__name__)
_PATIENCE = 0.5
_FETCH_SECONDS = 15.0


class Listing:
    """The lists, kept fresh; a provider that fails keeps its last one. ``changed`` is called after each change."""

    def __init__(self, providers: Mapping[str, Provider], refresh: float, changed: Callable[[], None]) -> None:
        self.refresh = refresh
        self._providers = providers
        self._changed = changed
        self._lists: dict[str, tuple[Model, ...]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}
        self._first_looks: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def owners(self, model: str) -> Sequence[str]:
        """The providers whose lists have ``model``."""
        return self._owners.get(model, ())

    def unknown(self) -> Sequence[str]:
        """The providers whose list is not known (yet)."""
        return [name for name in self._providers if not self._lists.get(name)]

    async def models(self) -> Sequence[Model]:
        """All listed models; waits a moment for the first lists."""
        if (first := self._first_looks.get(asyncio.get_running_loop())) is not None and not first.done():
            await asyncio.wait({first}, timeout=_PATIENCE)
        return [model for models in self._lists.values() for model in models]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep the lists fresh while the gateway runs."""
        loop = asyncio.get_running_loop()
        first = self._first_looks[loop] = loop.create_task(self._look_at_all())
        task = loop.create_task(self._keep_looking(first))
        try:
            yield
        finally:
            del self._first_looks[loop]
            first.cancel()
            task.cancel()
            await asyncio.wait({first, task})

    async def _keep_looking(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait({first})
        while True:
            await asyncio.sleep(self.refresh)
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        await asyncio.gather(*(self._look(name, provider) for name, provider in self._providers.items()))
        self._owners = self._index()
        self._changed()

    async def _look(self, name: str, provider: Provider) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._lists[name] = tuple(await provider.models())
                self._changed()
        except (GatewayError, TimeoutError) as error:
            logger.warning("provider %s does not list its models: %s", name, str(error) or "it takes too long")
        except Exception as error:
            logger.error("provider %s failed to list its models: %s", name, type(error).__name__, exc_info=error)

    def _index(self) -> dict[str, tuple[str, ...]]:
        owners: dict[str, tuple[str, ...]] = {}
        for name, models in self._lists.items():
            for model in models:
                owners[model.id] = (*owners.get(model.id, ()), name)
        return owners
