"""The gateway: put together once, then an ASGI application."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gatewaykit.assembly import assemble, make_targets, reload
from gatewaykit.current import REQUEST
from gatewaykit.errors import ConfigError, GatewayKitError, Unavailable
from gatewaykit.exchange import Exchange, read_incoming
from gatewaykit.limits import Forecast, Standing
from gatewaykit.live import Live
from gatewaykit.metrics import Reading
from gatewaykit.pipeline import Pipeline
from gatewaykit.protocols import Dialect, Known, Lifespan, Provider, Reloaded, Router
from gatewaykit.registry import PluginInfo
from gatewaykit.responding import WHOLE
from gatewaykit.settings import ServerSettings
from gatewaykit.sources import Sources, find_redis, find_storage
from gatewaykit.tallying import SharedTally
from gatewaykit.types import Call, Incoming, Principal

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
        sources = self._sources = Sources(config, os.environ if environ is None else environ, overrides or {})
        self.tell_others: Callable[[], None] = lambda: None
        self.logger = logging.getLogger("gatewaykit")
        self._registry = sources.load_plugins(plugins)
        self.settings = sources.load_settings(self._registry)
        self.tally = SharedTally()
        self._speechless: set[str] = set()
        self._providers: dict[str, Provider] = {}
        self._routers: dict[str, Router] = {}
        self._running: dict[asyncio.AbstractEventLoop, _Run] = {}
        self.storage = find_storage(self._registry, self.settings)
        self.redis = find_redis(self._registry, self.settings)
        self.targets = make_targets(self.settings)
        self._assembly = assemble(self._registry, self.settings, self, self._providers, self._routers)
        self._pipeline = Pipeline(self._assembly.parts, self._assembly.awake())
        self._live = Live(self.settings.get(ServerSettings).tls_certfile)

    @property
    def providers(self) -> Mapping[str, Provider]:
        """All providers by name."""
        return MappingProxyType(self._providers)

    @property
    def routers(self) -> Mapping[str, Router]:
        """All routers by name."""
        return MappingProxyType(self._routers)

    @property
    def dialects(self) -> Sequence[Dialect]:
        """All dialects, with their routes."""
        return self._assembly.dialects.dialects

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
        """Whether all lifespans have been entered in the running event loop; False where none runs."""
        try:
            run = self._running.get(asyncio.get_running_loop())
        except RuntimeError:
            return False
        return run is not None and run.ready

    async def authenticate(self, incoming: Incoming) -> Principal:
        """Who calls, by the gateway's authenticators. Raises :class:`~gatewaykit.errors.AuthFailed`."""
        return await self._assembly.parts.door.admit(incoming)

    async def standings(self, principal: Principal) -> Sequence[Standing]:
        """How the principal's own limits stand, as the limiters tell."""
        return [standing for ask in self._assembly.parts.standings for standing in await ask(principal) or ()]

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """Who has this id, as the first authenticator that knows it tells."""
        return await self._assembly.parts.door.look_up(id)

    async def foretell(self, call: Call) -> Sequence[Forecast]:
        """What the limiters would say to ``call``, without counting it."""
        return [forecast for ask in self._assembly.parts.forecasts for forecast in await ask(call) or ()]

    def greetings(self, address: str) -> list[tuple[str, str]]:
        """What plugins tell people of a gateway that accepts requests at ``address``. Blocks."""
        return [told for _, told in self._registry.collect("gateway_greetings", gateway=self, address=address)]

    def knows(self, model: str) -> bool:
        """Whether a router knows this name by itself."""
        return any(knows(model) for knows in self._assembly.knows)

    def readings(self) -> Sequence[Reading]:
        """How everything in this process stands that can tell; what cannot is passed over, and the log says so."""
        found: list[Reading] = []
        for owner, readings in self._speakers():
            try:
                found.extend(readings())
                self._speechless.discard(owner)
            except Exception as error:
                if owner not in self._speechless:
                    logger.error("%s cannot say how it stands: %s", owner, type(error).__name__, exc_info=error)
                self._speechless.add(owner)
        return found

    def _speakers(self) -> Iterable[tuple[str, Callable[[], Iterable[Reading]]]]:
        yield "gateway", self._live.readings
        yield "targets", lambda: self.targets.readings(self.knows)
        if self.storage is not None:
            yield "storage", self.storage.readings
        if self.redis is not None:
            yield "redis", self.redis.readings
        yield from self._assembly.readings

    def stopping(self) -> None:
        """The server stops: calls that are cut off from now on have not been left by their clients, and these hear of
        it.
        """
        self._pipeline.stopping = True

    def owns(self, path: str) -> bool:
        """Whether this path, relative to the mount point, belongs to a dialect or a route of the gateway."""
        return self._assembly.dialects.methods(path) is not None or self._assembly.routes.owns(path)

    def reload(self, *, everywhere: bool = False) -> Reloaded:
        """Read the configuration again and put into force what can be changed while the gateway runs.

        ``everywhere`` asks the other workers of this machine to do the same. Raises
        :class:`~gatewaykit.errors.ConfigError` with every fault; then nothing has changed.
        """
        self.settings, reloaded = reload(self._registry, self._sources, self.settings, self._assembly)
        self._pipeline.on_request = self._assembly.awake()
        for section in reloaded.wait:
            logger.warning("[%s] has changed, and is in force after a restart", section)
        logger.info("read the configuration again; changed: %s", ", ".join(reloaded.in_force) or "nothing")
        if everywhere:
            self.tell_others()
        return reloaded

    # Running

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Enter the lifespans of all plugins, in the running event loop; harmless when that has been done."""
        loop = asyncio.get_running_loop()
        for stale in [known for known in tuple(self._running) if known.is_closed()]:
            self._running.pop(stale, None)
        run = self._running.get(loop)
        if run is None or run.over:
            run = self._running[loop] = _Run(self._open())
        await run.entered()

    async def stop(self) -> None:
        """Leave the lifespans in reverse and close the providers."""
        run = self._running.pop(asyncio.get_running_loop(), None)
        if run is not None and not run.over:
            await run.leave()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        """All that lives as long as the gateway runs in this event loop."""
        assembly = self._assembly
        async with AsyncExitStack() as stack:
            if self.storage is not None:
                await stack.enter_async_context(self.storage.lifespan())
            if self.redis is not None:
                await stack.enter_async_context(self.redis.lifespan())
            await asyncio.to_thread(self.tally.start)
            stack.push_async_callback(asyncio.to_thread, self.tally.stop)
            await asyncio.to_thread(assembly.observers.start)
            stack.push_async_callback(asyncio.to_thread, assembly.observers.stop)
            for provider in self._providers.values():
                stack.push_async_callback(provider.aclose)
            opened = [lifespan for _, lifespan in self._registry.collect("gateway_lifespan", gateway=self)]
            if faults := self._registry.take_faults():
                raise ConfigError(faults)
            for lifespan in [*opened, *(begin() for begin in assembly.lifespans)]:
                await stack.enter_async_context(lifespan)
            yield

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
            return
        incoming = read_incoming(scope, path)
        takes_whole = WHOLE in scope.get("extensions", ())
        exchange = Exchange(incoming, send, self._assembly.parts.seal, takes_whole=takes_whole)
        exchanges = self._live.exchanges
        exchanges.add(exchange)
        token = REQUEST.set(incoming)
        try:
            await self._pipeline.serve(methods, scope, receive, exchange)
        finally:
            REQUEST.reset(token)
            exchanges.discard(exchange)

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
        try:
            await self.stop()
        except Exception as error:
            logger.error("the gateway could not stop", exc_info=error)
            await send({"type": "lifespan.shutdown.failed", "message": type(error).__name__})
            return
        await send({"type": "lifespan.shutdown.complete"})


class _Run:
    """The gateway in one event loop: a task that enters ``lifespan``, waits and leaves it.

    One task does both, for time limits and task groups demand it; when its event loop ends, it leaves as well.
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self.ready = False
        self._tried = asyncio.Event()
        self._leaving = asyncio.Event()
        self._task = asyncio.create_task(self._live(lifespan), name="gatewaykit")

    @property
    def over(self) -> bool:
        """Whether the lifespan has been left, or could not be entered."""
        return self._task.done()

    async def entered(self) -> None:
        """Wait until the lifespan is entered. Raises what kept it from that."""
        await self._tried.wait()
        if not self.ready:
            await asyncio.shield(self._task)

    async def leave(self) -> None:
        """Leave the lifespan, entered or not yet. Raises what goes wrong with that."""
        self._leaving.set()
        await asyncio.shield(self._task)

    async def _live(self, lifespan: Lifespan) -> None:
        try:
            async with lifespan:
                self.ready = True
                self._tried.set()
                await self._leaving.wait()
                self.ready = False
        finally:
            self._tried.set()


def route_path(scope: Mapping[str, Any]) -> str:
    """The path below the mount point: ASGI servers and frameworks put that point into ``root_path``."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path
