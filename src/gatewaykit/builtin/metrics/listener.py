"""A port of its own for ``/metrics``; with several workers each listens, and the system chooses among them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from gatewaykit.builtin.metrics.collector import PATH
from gatewaykit.builtin.metrics.settings import MetricsSettings
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.guarding import Answer
from gatewaykit.serving.heads import limited_protocol

_AT_ONCE = 16
_MOST_HEADER_BYTES = 16 * 1024
logger = logging.getLogger(__name__)


@asynccontextmanager
async def listening(settings: MetricsSettings, answer: Answer, *, shared: bool) -> AsyncIterator[None]:
    """Serve :data:`PATH` until the block is left; ``shared`` with the other workers.

    Raises :class:`~gatewaykit.errors.ConfigError` for a port in use.
    """
    server = _Server(Starlette(routes=[Route(PATH, answer)]))
    with _bound(settings, shared) as bound:
        task = asyncio.create_task(server.serve(sockets=[bound]), name="gatewaykit-metrics")
        try:
            await asyncio.wait({task, asyncio.ensure_future(server.accepting.wait())}, return_when="FIRST_COMPLETED")
            if task.done():
                await task
            yield
        finally:
            server.leaving.set()
            await task


@contextmanager
def _bound(settings: MetricsSettings, shared: bool) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        try:
            bound.bind((settings.host, settings.port or 0))
        except OSError as error:
            problem = f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
            raise ConfigError([ConfigFault(problem, "metrics.port")]) from None
        yield bound


class _Server(uvicorn.Server):
    """Lives in a running event loop: no signals of its own, and it stops at a word."""

    def __init__(self, app: Starlette) -> None:
        protocol: Any = limited_protocol(_MOST_HEADER_BYTES)
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_AT_ONCE,
                timeout_graceful_shutdown=1,
            )
        )
        self.accepting = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the gateway's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        """Wait for the word."""
        await self.on_tick(0)
        await self.leaving.wait()
