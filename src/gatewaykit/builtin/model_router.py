"""Finds the provider of a model: by alias, by prefix, or by what the providers say they have.

In this order:

1. an alias from ``[router.aliases]``: its targets, ``provider/model``, best first;
2. ``provider/model`` with the name of a provider;
3. providers whose list of models has the name;
4. the default provider, the only provider, or else every provider whose list is not known (yet).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self

from pydantic import Field, model_validator

from gatewaykit.errors import ConfigError, ConfigFault, GatewayError
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import GatewayContext, Provider, Router
from gatewaykit.settings import Seconds, Section
from gatewaykit.types import Call, Model, Target

logger = logging.getLogger(__name__)
_PATIENCE = 0.5
_FETCH_SECONDS = 15.0
_MOST_REMEMBERED = 4096


class RouterSettings(Section):
    """Which model is where."""

    section = "router"

    default_provider: str | None = Field(None, description="Provider of models that no list names.")
    aliases: dict[str, tuple[str, ...]] = Field(
        {}, description="Targets by the name that clients use, each `provider/model`, best first."
    )
    refresh: Seconds = Field(300.0, description="Seconds between two looks at the providers' lists of models.")

    @model_validator(mode="after")
    def _are_targets(self) -> Self:
        for alias, targets in self.aliases.items():
            for target in targets:
                provider, slash, model = target.partition("/")
                if not (provider and slash and model):
                    raise ValueError(f"aliases.{alias}: {target!r} is not 'provider/model'")
            if not targets:
                raise ValueError(f"aliases.{alias} has no target")
        return self


class ModelRouter(Router):
    """The table of models. Lists are fetched in the background; a provider that fails keeps its last one."""

    name = "models"

    def __init__(self, settings: RouterSettings, providers: Mapping[str, Provider]) -> None:
        self._default = settings.default_provider
        self._refresh = settings.refresh
        self._providers = providers
        self._aliases = {
            alias: tuple(Target(*target.split("/", 1)) for target in targets)
            for alias, targets in settings.aliases.items()
        }
        self._named = {target.model for targets in self._aliases.values() for target in targets}
        self._lists: dict[str, tuple[Model, ...]] = {}
        self._owners: dict[str, tuple[str, ...]] = {}
        self._found: dict[str, tuple[Target, ...]] = {}
        self._first_looks: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def route(self, call: Call) -> Sequence[Target]:
        """Targets in the order that the module's docstring gives."""
        asked = call.chat.model
        known = self._found.get(asked)
        if known is None:
            known = tuple(self._find(asked))
            if len(self._found) < _MOST_REMEMBERED:
                self._found[asked] = known
        return known

    def _find(self, asked: str) -> Sequence[Target]:
        if (targets := self._aliases.get(asked)) is not None:
            return targets
        provider, slash, model = asked.partition("/")
        if slash and model and provider in self._providers:
            return (Target(provider, model),)
        return [Target(name, asked) for name in self._owners.get(asked) or self._guess()]

    async def models(self, call: Call) -> Sequence[Model]:
        """Aliases and all listed models; waits a moment for the first lists."""
        if (first := self._first_looks.get(asyncio.get_running_loop())) is not None and not first.done():
            await asyncio.wait({first}, timeout=_PATIENCE)
        listed = [model for models in self._lists.values() for model in models]
        return [*(Model(alias, "gatewaykit") for alias in self._aliases), *listed]

    def knows(self, model: str) -> bool:
        """Aliases, their targets, and what providers list, with and without the provider's name before it."""
        provider, slash, listed = model.partition("/")
        if slash and provider in self._providers and listed in self._owners:
            return True
        return model in self._aliases or model in self._owners or model in self._named

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

    def _guess(self) -> Sequence[str]:
        if self._default is not None:
            return (self._default,)
        if len(self._providers) == 1:
            return tuple(self._providers)
        return [name for name in self._providers if not self._lists.get(name)]

    async def _keep_looking(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait({first})
        while True:
            await asyncio.sleep(self._refresh)
            await self._look_at_all()

    async def _look_at_all(self) -> None:
        await asyncio.gather(*(self._look(name, provider) for name, provider in self._providers.items()))
        self._owners = self._index()
        self._found.clear()

    async def _look(self, name: str, provider: Provider) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._lists[name] = tuple(await provider.models())
                self._found.clear()
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


def _router(gateway: GatewayContext) -> ModelRouter:
    settings = gateway.settings.get(RouterSettings)
    named = {target.partition("/")[0] for targets in settings.aliases.values() for target in targets}
    known = ", ".join(sorted(gateway.providers)) or "none"
    wanted = [("router.aliases", name) for name in sorted(named)]
    if settings.default_provider is not None:
        wanted.append(("router.default_provider", settings.default_provider))
    faults = [
        ConfigFault(f"no provider is called {name!r}; there are: {known}", where)
        for where, name in wanted
        if name not in gateway.providers
    ]
    if faults:
        raise ConfigError(faults)
    return ModelRouter(settings, gateway.providers)


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[router]``."""
    return [RouterSettings]


@hookimpl
def gateway_routers(gateway: GatewayContext) -> Iterable[Router]:
    """The table of models."""
    return [_router(gateway)]
