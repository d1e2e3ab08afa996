"""Gateways for tests: nothing of this machine's configuration in them, and real sockets in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any

import httpx
import uvicorn

from gatewaykit.app import Gateway
from gatewaykit.registry import installed_plugins
from gatewaykit.serving.heads import limited_protocol
from gatewaykit.serving.server import KEEP_ALIVE_SECONDS
from gatewaykit.settings import ServerSettings

KEY = "gk_test_0123456789abcdefghij"
"""The one key that gateways of :func:`make_gateway` know."""

_PATIENCE = 30.0


def make_gateway(*plugins: object, **config: Any) -> Gateway:
    """A gateway with ``plugins``, the key :data:`KEY`, no environment and no access log; a failure is told at once, for
    nothing is tried again and no circuit opens.

    ``config`` are sections of the configuration: ``timeouts={"first_event": 0.2}``. Of the plugins that happen to be
    installed, only those take part that have a section in ``config``. Raises
    :class:`~gatewaykit.errors.ConfigError` as :class:`~gatewaykit.Gateway` does.
    """
    given = {
        "static_keys": {"keys": {"test": KEY}},
        "log": {"access": False},
        "retries": {"attempts": 0},
        "breaker": {"enabled": False},
        "plugins": {"blocked": _uninvited(plugins, config)},
        **config,
    }
    return Gateway(given, plugins=plugins, environ={})


def _uninvited(plugins: tuple[object, ...], config: dict[str, Any]) -> list[str]:
    """Installed plugins that are not configured; those too that are handed in, or they would be there twice."""
    modules = {plugin.__name__ for plugin in plugins if isinstance(plugin, ModuleType)}
    return sorted(
        {
            entry.name
            for entry, _ in installed_plugins()
            if entry.name.replace("-", "_") not in config or entry.module in modules
        }
    )


@asynccontextmanager
async def serve(app: Any, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an ASGI application by uvicorn in the running event loop, on a free loopback port; yields the address.

    ``listener`` is a bound socket, for an application that has to know its own address; it is closed at the end.
    The application's lifespan is run. Calls in flight end before the block is left, for uvicorn waits for them.
    Raises :class:`RuntimeError` when the application does not start.
    """
    server = _Server(_config(app))
    with listener or bound() as listener:
        host, port = listener.getsockname()
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.wait({task, asyncio.ensure_future(server.accepting.wait())}, return_when="FIRST_COMPLETED")
            if task.done():
                await task
            yield f"http://{host}:{port}"
        finally:
            server.leaving.set()
            await task


def bound() -> socket.socket:
    """A socket on a free loopback port."""
    # Only on sockets that say TCP does asyncio switch Nagle's algorithm off, which holds answers back for 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


@contextmanager
def running(app: Any, listener: socket.socket | None = None) -> Iterator[str]:
    """:func:`serve` in a thread and event loop of its own, for tests that block."""
    address: Future[str] = Future()
    leaving: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        leave = asyncio.Event()
        leaving.set_result((asyncio.get_running_loop(), leave))
        async with serve(app, listener) as url:
            address.set_result(url)
            await leave.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if address.done():
                raise
            address.set_exception(error)

    thread = threading.Thread(target=run, name="gatewaykit-test-server", daemon=True)
    thread.start()
    try:
        yield address.result(_PATIENCE)
    finally:
        loop, leave = leaving.result(_PATIENCE)
        with contextlib.suppress(RuntimeError):  # the loop is closed when the application did not start
            loop.call_soon_threadsafe(leave.set)
        thread.join(_PATIENCE)


@asynccontextmanager
async def gateway_client(gateway: Any, key: str = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with the gateway's address and a key; the gateway is served on a socket meanwhile."""
    async with (
        serve(gateway) as url,
        httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_PATIENCE, trust_env=False
        ) as client,
    ):
        yield client


class _Server(uvicorn.Server):
    """Stops at a word instead of a signal, and says when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the test runner's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise RuntimeError("the application did not start; its log says why") from None
        self.accepting.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.leaving.wait()


def _config(app: Any) -> uvicorn.Config:
    options: dict[str, Any] = {"lifespan": "auto", "http": "auto"}
    if isinstance(app, Gateway):
        limit = app.settings.get(ServerSettings).max_header_bytes
        options = {"lifespan": "on", "http": limited_protocol(limit)}
    return uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,  # a busy machine keeps clients from their connections for seconds
        **options,
    )
