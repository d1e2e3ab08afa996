"""The gateway: put together once, then an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from gatewaykit.assembly import Sources, assemble
from gatewaykit.errors import ConfigError, GatewayKitError, Unavailable
from gatewaykit.exchange import Exchange, read_incoming
from gatewaykit.pipeline import Pipeline
from gatewaykit.protocols import Provider
from gatewaykit.registry import PluginInfo

logger = logging.getLogger(__name__)


class Gateway:
    """An ASGI application that answers the APIs of its dialects with the models of its providers.

    ``config`` is the path of a TOML file, or a mapping of the same shape; ``environ`` the variables to read (the
    process's own, if not given; ``{}`` for none). ``plugins`` are further plugin objects, beside those that are
    installed. ``overrides`` maps dotted paths to values and is stronger than all else. Raises
    :class:`~gatewaykit.errors.ConfigError` with every fault. Opens no connection and binds to no event loop until it
    is entered (``async with gateway``), receives a lifespan event, or serves its first request.
    """

    def __init__(
        self,
        config: Path | str | Mapping[str, Any] | None = None,
        *,
        plugins: Iterable[object] = (),
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        sources = Sources(config, os.environ if environ is None else environ, overrides or {})
        self.logger = logging.getLogger("gatewaykit")
        self._registry = sources.load_plugins(plugins)
        self.settings = sources.load_settings(self._registry)
        self._providers: dict[str, Provider] = {}
        self._assembly = assemble(self._registry, self.settings, self, self._providers)
        if self._registry.faults:
            raise ConfigError(self._registry.faults)
        self._pipeline = Pipeline(self._assembly.parts)
        self._running: dict[asyncio.AbstractEventLoop, _Run] = {}

    @property
    def providers(self) -> Mapping[str, Provider]:
        """All providers by name."""
        return MappingProxyType(self._providers)

    @property
    def plugins(self) -> Sequence[PluginInfo]:
        """Every plugin that is installed or was handed in, with its state."""
        return tuple(self._registry.report)

    @property
    def guarded(self) -> bool:
        """Whether any authenticator stands at the door; without one every request is refused."""
        return self._assembly.guarded

    @property
    def ready(self) -> bool:
        """Whether all lifespans have been entered in the running event loop."""
        run = self._running.get(asyncio.get_running_loop())
        return run is not None and run.ready

    def owns(self, path: str) -> bool:
        """Whether this path, relative to the mount point, belongs to a dialect or a route of the gateway."""
        return self._assembly.dialects.methods(path) is not None or self._assembly.routes.owns(path)

    # Running

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Enter the lifespans of all plugins, in the running event loop; harmless when that has been done."""
        loop = asyncio.get_running_loop()
        for stale in [known for known in self._running if known.is_closed()]:
            del self._running[stale]
        run = self._running.get(loop)
        if run is None:
            run = self._running[loop] = _Run()
            run.starting = loop.create_task(self._enter(run))
        await asyncio.shield(run.starting)

    async def stop(self) -> None:
        """Leave the lifespans in reverse and close the providers."""
        run = self._running.pop(asyncio.get_running_loop(), None)
        if run is not None:
            await run.stack.aclose()

    async def _enter(self, run: _Run) -> None:
        try:
            self._assembly.observers.start()
            run.stack.push_async_callback(asyncio.to_thread, self._assembly.observers.stop)
            for provider in self._providers.values():
                run.stack.push_async_callback(provider.aclose)
            opened = [lifespan for _, lifespan in self._registry.collect("gateway_lifespan", gateway=self)]
            for lifespan in [*opened, *(begin() for begin in self._assembly.lifespans)]:
                await run.stack.enter_async_context(lifespan)
            if self._registry.faults:
                raise ConfigError(self._registry.faults)
            run.ready = True
        except BaseException:
            self._running.pop(asyncio.get_running_loop(), None)
            await run.stack.aclose()
            raise

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For hosts that take a lifespan function: ``Starlette(lifespan=gateway.lifespan)``."""
        async with self:
            yield

    # Serving

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection. Hosts need not run the gateway's lifespan: the first request starts it too."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        path = route_path(scope)
        methods = self._assembly.dialects.methods(path)
        run = self._running.get(asyncio.get_running_loop())
        if run is None or not run.ready:
            try:
                await self.start()
            except Exception as error:
                logger.error("the gateway could not start", exc_info=error)
                await self._assembly.routes.refuse(Unavailable(), scope, path, send)
                return
        if methods is None:
            await self._assembly.routes(path, scope, receive, send)
        else:
            await self._pipeline.serve(methods, scope, receive, Exchange(read_incoming(scope, path), send))

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            logger.error("the gateway could not start", exc_info=error)
            text = str(error) if isinstance(error, GatewayKitError) else type(error).__name__
            await send({"type": "lifespan.startup.failed", "message": text})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


class _Run:
    """The gateway in one event loop."""

    starting: asyncio.Task[None]

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.ready = False


def route_path(scope: Mapping[str, Any]) -> str:
    """The path below the mount point: ASGI servers and frameworks put that point into ``root_path``."""
    path, root = cast("str", scope["path"]), cast("str", scope.get("root_path", ""))
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path
