"""The gateway on a socket: uvicorn with uvloop and httptools, one process or several."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from gatewaykit.app import Gateway
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.logs import configure_logs
from gatewaykit.settings import ServerSettings, find_config

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
KEEP_ALIVE_SECONDS = 75


def limited_protocol(max_header_bytes: int) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, with a bound on the request head that the parser below it does not have (RFC 6585, 5)."""

    class LimitedProtocol(HttpToolsProtocol):
        _head_bytes = 0
        _in_body = False

        def data_received(self, data: bytes) -> None:
            if not self._in_body:
                self._head_bytes += len(data)
                if self._head_bytes > max_header_bytes and b"\r\n\r\n" not in data:
                    self.transport.write(_TOO_LARGE)
                    self.transport.close()
                    return
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._head_bytes = 0
            self._in_body = True
            if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > max_header_bytes:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                raise ValueError("request head too large")
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_body = False
            super().on_message_complete()

    return LimitedProtocol


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_keys(gateway: Gateway) -> None:
    """Refuse to be reachable from elsewhere with no authenticator. Raises :class:`~gatewaykit.errors.ConfigError`."""
    server = gateway.settings.get(ServerSettings)
    if not gateway.guarded and not is_loopback(server.host):
        message = (
            f"{server.host} can be reached from other machines, and there are no keys. Add some under "
            "[static_keys.keys], or say server.allow_anonymous = true to let everybody in."
        )
        raise ConfigError([ConfigFault(message, "server.host")])


class GatewayServer:
    """A bound socket and the server that will accept on it.

    ``environ`` holds what worker processes need to build the same gateway (see :func:`create`); with one worker
    ``gateway`` itself serves. ``address`` is known before :meth:`run`, also for port 0.
    """

    def __init__(self, gateway: Gateway, environ: Mapping[str, str] | None = None) -> None:
        server = gateway.settings.get(ServerSettings)
        self._environ = environ or {}
        self._workers = server.workers
        self._config = _uvicorn_config(gateway, server)
        self._socket = _bind(server.host, server.port)
        scheme = "https" if server.tls_certfile else "http"
        host, port = self._socket.getsockname()[:2]
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, on_ready: Callable[[], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM; calls in flight get ``server.graceful_shutdown`` seconds to end."""
        try:
            if self._workers > 1:
                os.environ.update(self._environ)
                if on_ready is not None:
                    on_ready()
                Multiprocess(self._config, sockets=[self._socket]).run()
            else:
                _Server(self._config, on_ready).run(sockets=[self._socket])
        finally:
            self._socket.close()


class _Server(uvicorn.Server):
    """Says when it accepts."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        settle_memory()
        if self.started and self._on_ready is not None:
            self._on_ready()


def settle_memory() -> None:
    """Take what start-up made out of the garbage collector's sight, and let it look less often.

    Requests leave next to no cycles behind; looking through all modules for them again and again is pure cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def create() -> Gateway:
    """The gateway of a worker process, from the environment alone."""
    gateway = Gateway(find_config(None, os.environ))
    configure_logs(gateway.settings.log)
    return gateway


def _uvicorn_config(gateway: Gateway, server: ServerSettings) -> uvicorn.Config:
    password = server.tls_keyfile_password
    options: dict[str, Any] = {
        "app": gateway if server.workers == 1 else "gatewaykit.serving:create",
        "factory": server.workers > 1,
        "host": server.host,
        "port": server.port,
        "workers": server.workers,
        "http": limited_protocol(server.max_header_bytes),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": bool(server.trusted_proxies),
        "forwarded_allow_ips": list(server.trusted_proxies),
        "root_path": server.root_path,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": int(server.graceful_shutdown),
        "ssl_certfile": server.tls_certfile,
        "ssl_keyfile": server.tls_keyfile,
        "ssl_keyfile_password": password.get_secret_value() if password else None,
    }
    return uvicorn.Config(**options)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError([ConfigFault(f"cannot listen on {host}:{port}: {error.strerror}", "server.port")]) from None
    bound.set_inheritable(True)
    return bound
