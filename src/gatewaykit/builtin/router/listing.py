"""What the providers say they have: lists of models, fetched in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from gatewaykit.attempts.targets import Targets
from gatewaykit.errors import GatewayError
from gatewaykit.protocols import Provider
from gatewaykit.types import Model

logger = logging.getLogger(__name__)
_PATIENCE = 0.5
_FETCH_SECONDS = 15.0
_CHECK_SECONDS = 1.0
_DOWN = frozenset({"provider_unavailable", "provider_timeout"})
"""Failures after which a list that comes again says that the provider is back."""


class Listing:
    """The lists, kept fresh; a provider that fails keeps its last one. ``changed`` is called after each change."""

    def __init__(
        self, providers: Mapping[str, Provider], targets: Targets, refresh: float, changed: Callable[[], None]
    ) -> None:
        self.refresh = refresh
        self._targets = targets
        self._providers = providers
        self._changed = changed
        self._lists: dict[str, tuple[Model, ...]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}
        self._gone: set[str] = set()
        self._first_looks: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def owners(self, model: str) -> Sequence[str]:
        """The providers whose lists have ``model``."""
        return self._owners.get(model, ())

    def unknown(self) -> Sequence[str]:
        """The providers whose list is not known (yet)."""
        return [name for name in self._providers if not self._lists.get(name)]

    async def models(self) -> Sequence[Model]:
        """All listed models; waits a moment for the first lists."""
        if self.is_coming:
            await asyncio.wait({self._first_looks[asyncio.get_running_loop()]}, timeout=_PATIENCE)
        return [model for models in self._lists.values() for model in models]

    @property
    def is_coming(self) -> bool:
        """Whether the first look at all lists is still under way."""
        first = self._first_looks.get(asyncio.get_running_loop())
        return first is not None and not first.done()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep the lists fresh while the gateway runs."""
        loop = asyncio.get_running_loop()
        first = self._first_looks[loop] = loop.create_task(self._look_at_all())
        tasks = {first, loop.create_task(self._keep_looking(first)), loop.create_task(self._keep_checking())}
        try:
            yield
        finally:
            del self._first_looks[loop]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _keep_looking(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait({first})
        while True:
            await asyncio.sleep(self.refresh)
            await self._look_at_all()

    async def _keep_checking(self) -> None:
        """While circuits are open, ask their providers for their lists, which costs nothing: one that comes lets the
        next call be a probe, before the cooldown is over. But one that came all the while says nothing: it is not what
        fails. Nor does one that does not come: it may be the list.
        """
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            down = {
                state.target.provider
                for state in self._targets.all()
                if state.circuit == "open" and state.last_error in _DOWN
            }
            self._gone &= down
            if down:
                await asyncio.gather(*(self._check(name) for name in down & self._lists.keys()))

    async def _check(self, name: str) -> None:
        if not self._lists[name]:
            return
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._providers[name].models()
        except Exception:  # noqa: BLE001 - it is down, as was known
            self._gone.add(name)
            return
        if name not in self._gone:
            return
        self._gone.discard(name)
        now = time.monotonic()
        for state in self._targets.all():
            if state.target.provider == name and state.breaker is not None and state.last_error in _DOWN:
                state.breaker.hope(now)

    async def _look_at_all(self) -> None:
        await asyncio.gather(*(self._look(name, provider) for name, provider in self._providers.items()))

    async def _look(self, name: str, provider: Provider) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._lists[name] = tuple(await provider.models())
            # At once: others may take their time, and whose list is known is not asked for what is not in it.
            self._owners = self._index()
            self._changed()
        except (GatewayError, TimeoutError) as error:
            logger.warning("provider %s does not list its models: %s", name, str(error) or "it takes too long")
        except Exception as error:
            logger.error("provider %s failed to list its models: %s", name, type(error).__name__, exc_info=error)

    def _index(self) -> dict[str, tuple[str, ...]]:
        owners: dict[str, tuple[str, ...]] = {}
        for name in self._providers:
            for model in self._lists.get(name, ()):
                owners[model.id] = (*owners.get(model.id, ()), name)
        return owners
