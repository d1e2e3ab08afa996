"""The gateway inside another ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gatewaykit.app import Gateway, route_path

logger = logging.getLogger(__name__)


class GatewayMiddleware:
    """Puts ``gateway`` in front of ``app``: what lies below ``prefix`` is the gateway's, everything else the app's.

    ::

        app = GatewayMiddleware(app, Gateway("gatewaykit.toml"), prefix="/llm")

    With an empty ``prefix`` the gateway answers its own paths only (``/v1/…``, ``/livez``, …). The gateway starts and
    stops with the host's lifespan; where the server runs none, it starts with its first request.
    """

    def __init__(self, app: Any, gateway: Gateway, prefix: str = "") -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ValueError(f"prefix must begin with '/' and not end with it: {prefix!r}")
        self._app = app
        self._gateway = gateway
        self._prefix = prefix

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http" and self._is_ours(path := route_path(scope)):
            root = scope.get("root_path", "")
            await self._gateway({**scope, "root_path": root + self._prefix, "path": root + path}, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, path: str) -> bool:
        if not self._prefix:
            return self._gateway.owns(path)
        return path == self._prefix or path.startswith(self._prefix + "/")

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """The host's lifespan, with the gateway started before it says that it is ready and stopped before it says
        that it is over.

        A host that knows no lifespan raises, or does not answer; the gateway then has the events to itself.
        """
        host = _Host(self._gateway, receive, send)
        try:
            await self._app(scope, host.receive, host.send)
        except Exception:
            if host.answered:
                raise
            logger.debug("the host application has no lifespan")
        finally:
            await self._gateway.stop()
        if not host.answered:
            await self._gateway(scope, host.replay, send)


class _Host:
    """Listens to the host's side of the lifespan."""

    def __init__(self, gateway: Gateway, receive: Any, send: Any) -> None:
        self._gateway = gateway
        self._receive = receive
        self._send = send
        self._heard: list[Any] = []
        self.answered = False

    async def receive(self) -> Any:
        """The server's next event, remembered for :meth:`replay`."""
        message = await self._receive()
        self._heard.append(message)
        return message

    async def replay(self) -> Any:
        """The events that the host has taken and not answered, then new ones."""
        return self._heard.pop(0) if self._heard else await self._receive()

    async def send(self, message: Any) -> None:
        """Pass the host's answer on; when it is ready the gateway starts, and when it is over the gateway stops."""
        kind = message["type"]
        if not kind.startswith("lifespan."):
            raise RuntimeError(f"{kind} is no answer to a lifespan event")
        self.answered = True
        if kind == "lifespan.startup.complete":
            message = await self._failing("lifespan.startup.failed", self._gateway.start) or message
        elif kind == "lifespan.shutdown.complete":
            message = await self._failing("lifespan.shutdown.failed", self._gateway.stop) or message
        await self._send(message)

    async def _failing(self, kind: str, step: Callable[[], Awaitable[None]]) -> dict[str, str] | None:
        """Do ``step``; the message of this kind if it fails."""
        try:
            await step()
        except Exception as error:
            logger.error("the gateway failed with its host", exc_info=error)
            return {"type": kind, "message": f"gateway: {type(error).__name__}"}
        return None
