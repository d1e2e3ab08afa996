"""The hooks. All are synchronous and called once, while the gateway is put together; they return the objects that work.

A plugin is a module, named by an entry point of the group ``gatewaykit``, with functions marked ``@hookimpl``. A
function may leave out arguments that it does not need. ``async def`` and pluggy's wrappers are refused: return an
object with asynchronous methods instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute

    from gatewaykit.migration import MigrationSource
    from gatewaykit.protocols import (
        AroundCall,
        Authenticator,
        Dialect,
        GatewayContext,
        Lifespan,
        Limiter,
        Observer,
        Provider,
        Readable,
        Router,
        Transform,
    )
    from gatewaykit.settings import Section

PROJECT = "gatewaykit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def gateway_settings() -> Iterable[type[Section]]:
    """Settings models, one for each table of the configuration that belongs to the plugin.

    ::

        class EchoSettings(Section):
            section = "echo"
            greeting: str = Field("hello", description="What to say first.")

        @hookimpl
        def gateway_settings():
            return [EchoSettings]
    """
    return ()


@hookspec
def gateway_migrations() -> Iterable[MigrationSource]:
    """Where the plugin's Alembic revisions are. The gateway applies them before it starts, the core's first.

    ::

        @hookimpl
        def gateway_migrations():
            return [MigrationSource("acme", "gatewaykit_acme.migrations", "gatewaykit_acme.tables:metadata")]
    """
    return ()


@hookspec
def gateway_lifespan(gateway: GatewayContext) -> Iterable[Lifespan]:
    """Asynchronous context managers, entered in plugin order when the gateway starts and left in reverse when it stops.

    ::

        @asynccontextmanager
        async def warm(gateway):
            gateway.logger.info("warm")
            yield

        @hookimpl
        def gateway_lifespan(gateway):
            return [warm(gateway)]
    """
    return ()


@hookspec
def gateway_authenticators(gateway: GatewayContext) -> Iterable[Authenticator]:
    """Objects that say who calls.

    ::

        class Intranet(Authenticator):
            name = "intranet"

            async def authenticate(self, incoming):
                user = incoming.headers.get("x-intranet-user")
                return Principal(id=f"user:{user}") if user else None

        @hookimpl
        def gateway_authenticators(gateway):
            return [Intranet()]
    """
    return ()


@hookspec
def gateway_limiters(gateway: GatewayContext) -> Iterable[Limiter]:
    """Objects that decide whether a call may go on.

    ::

        class OfficeHours(Limiter):
            name = "office-hours"

            async def acquire(self, call):
                if not 8 <= time.localtime().tm_hour < 20:
                    raise RateLimited("Come back at eight.", retry_after=3600)
                return None

        @hookimpl
        def gateway_limiters(gateway):
            return [OfficeHours()]
    """
    return ()


@hookspec
def gateway_dialects(gateway: GatewayContext) -> Iterable[Dialect]:
    """Wire formats that clients may speak.

    ::

        class OldPaths(OpenAIChat):
            name = "old-paths"
            routes = [("POST", "/api/chat")]

        @hookimpl
        def gateway_dialects(gateway):
            return [OldPaths()]
    """
    return ()


@hookspec
def gateway_routers(gateway: GatewayContext) -> Iterable[Router]:
    """Objects that know where models are.

    ::

        class Nightly(Router):
            name = "nightly"

            def route(self, call):
                return [Target("echo", "nightly")] if call.request.model == "nightly" else []

            async def models(self, call):
                return [Model("nightly")]

        @hookimpl
        def gateway_routers(gateway):
            return [Nightly()]
    """
    return ()


@hookspec
def gateway_transforms(gateway: GatewayContext) -> Iterable[Transform]:
    """Objects that change requests, events or replies.

    ::

        class Shout(Transform):
            name = "shout"

            def on_event(self, call, event):
                return TextDelta(event.text.upper()) if isinstance(event, TextDelta) else event

        @hookimpl
        def gateway_transforms(gateway):
            return [Shout()]
    """
    return ()


@hookspec
def gateway_around_calls(gateway: GatewayContext) -> Iterable[AroundCall]:
    """Objects that wrap whole calls: a cache, a guard, a tracer.

    ::

        class Timed(AroundCall):
            name = "timed"

            async def around(self, call, proceed):
                began = time.monotonic()
                async with aclosing(proceed(call)) as events:
                    async for event in events:
                        yield event
                call.state["timed"] = time.monotonic() - began

        @hookimpl
        def gateway_around_calls(gateway):
            return [Timed()]
    """
    return ()


@hookspec
def gateway_providers(gateway: GatewayContext) -> Iterable[Provider]:
    """Sources of answers; none when the plugin is installed but not configured.

    ::

        class Echo(Provider):
            name = "echo"

            async def stream(self, call, target):
                yield TextDelta(call.chat.messages[-1].text)
                yield Finished("stop")

        @hookimpl
        def gateway_providers(gateway):
            return [Echo()]
    """
    return ()


@hookspec
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """Objects that see the record of every call, in a thread of their own.

    ::

        class Count(Observer):
            name = "count"
            calls = 0

            def record(self, record):
                self.calls += 1

        @hookimpl
        def gateway_observers(gateway):
            return [Count()]
    """
    return ()


@hookspec
def gateway_readings(gateway: GatewayContext) -> Iterable[Readable]:
    """Objects that tell in numbers how something stands. Objects from other hooks need only a method ``readings``.

    ::

        FREE = Metric("acme.disk.free", "gauge", "By", "Room on the disk of the models.", merge="min")

        class Disk(Readable):
            name = "acme-disk"

            def readings(self):
                return [Reading(FREE, shutil.disk_usage("/").free)]

        @hookimpl
        def gateway_readings(gateway):
            return [Disk()]
    """
    return ()


@hookspec
def gateway_routes(gateway: GatewayContext) -> Iterable[BaseRoute]:
    """Further Starlette routes. They are outside the request's way: no authenticator guards them but your own.

    ::

        async def hello(request):
            return PlainTextResponse("hello")

        @hookimpl
        def gateway_routes(gateway):
            return [Route("/hello", hello)]
    """
    return ()


@hookspec
def gateway_greetings(gateway: GatewayContext, address: str) -> Iterable[tuple[str, str]]:
    """What ``gatewaykit serve`` tells people once it accepts requests at ``address``: labels and texts, a line each.

    They go to the terminal and to no log. The gateway's database is open only while :meth:`Storage.opened` is entered.

    ::

        @hookimpl
        def gateway_greetings(gateway, address):
            return [("docs", f"{address}/docs")]
    """
    return ()


@hookspec
def gateway_commands(cli: click.Group) -> Any:
    """Further commands for ``gatewaykit``; add them to the group.

    ::

        @hookimpl
        def gateway_commands(cli):
            @cli.command()
            def hello():
                "Say hello."
                click.echo("hello")
    """
    return ()
