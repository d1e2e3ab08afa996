"""The gateway on a socket: uvicorn with uvloop and httptools, one process or several."""

from __future__ import annotations

import asyncio
import functools
import gc
import ipaddress
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gatewaykit.app import Gateway
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.settings import DEFAULT, ServerSettings, Settings
from gatewaykit.supervision import READY, STOP_SIGNALS, Supervisor

_BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
HEAD_SECONDS = 30.0
"""Seconds that a client may take for the head of a request."""


def _refusal(status: str, code: str, message: str) -> bytes:
    """An answer from below the gateway, where no dialect is known yet: the body is OpenAI's."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = msgspec.json.encode({"error": error})
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


_TOO_LARGE = _refusal(
    "431 Request Header Fields Too Large", "header_too_large", "The head of the request is too large."
)
_TOO_SLOW = _refusal("408 Request Timeout", "request_timeout", "The head of the request did not come in time.")


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on the request head that it does not have itself (RFC 6585, 5).

    ``max_header_bytes`` counts the target and all names and values of headers. What comes without end and is no body
    (a head, trailers, extensions of chunks) is refused at the latest when one read more than that has come. A head
    that is not complete after :data:`HEAD_SECONDS` is refused too, and a connection on which none begins is closed.
    """

    def __init__(self, *args: Any, max_header_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_header_bytes = max_header_bytes
        self._loose_bytes = 0
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > self._max_header_bytes:
            self._refuse(_TOO_LARGE)
        elif self._in_head and self._head_timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        self._loose_bytes = 0
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._loose_bytes = 0
        self._in_head = False
        self._stop_waiting()
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > self._max_header_bytes:
            self._refuse(_TOO_LARGE)
            raise ValueError("request head too large")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._loose_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            if not getattr(self.cycle, "response_started", False) or self.cycle.response_complete:
                self.transport.write(answer)
            self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()


def limited_protocol(max_header_bytes: int) -> functools.partial[LimitedProtocol]:
    """What uvicorn takes as ``http``: :class:`LimitedProtocol` with this bound."""
    return functools.partial(LimitedProtocol, max_header_bytes=max_header_bytes)


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
        raise _fault(gateway.settings, "host", message)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS with the certificate of the settings; None without one. Raises :class:`~gatewaykit.errors.ConfigError`."""
    server = settings.get(ServerSettings)
    if server.tls_certfile is None:
        return None
    secret = server.tls_keyfile_password
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password given here OpenSSL would ask the terminal for one.
        context.load_cert_chain(
            server.tls_certfile, server.tls_keyfile, lambda: secret.get_secret_value() if secret else ""
        )
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        problem = f"certificate and key cannot be used: {str(reason).replace('_', ' ').lower()}"
        raise _fault(settings, "tls_certfile", problem) from None
    return context


class GatewayServer:
    """A bound socket and the server that will accept on it. ``address`` is known before :meth:`run`, also for port 0.

    Raises :class:`~gatewaykit.errors.ConfigError` when the address or the certificate cannot be used.
    """

    def __init__(self, gateway: Gateway) -> None:
        server = gateway.settings.get(ServerSettings)
        self._workers = server.workers
        self._config = _uvicorn_config(gateway, server)
        if gateway.storage is not None:
            gateway.storage.migrate()  # a database that cannot be used keeps the port shut
        self._socket = _bind(gateway.settings)
        scheme = "https" if server.tls_certfile else "http"
        host, port = self._socket.getsockname()[:2]
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM; calls in flight get ``server.graceful_shutdown`` seconds to end.

        Raises :class:`SystemExit` when the gateway's own start fails, which is in the log then.
        """
        settle_memory()
        try:
            if self._workers > 1:
                Supervisor(self._workers, self._work).run(on_ready, on_stop=self._socket.close)
            else:
                _Server(self._config, STOP_SIGNALS, on_ready).run(sockets=[self._socket])
        finally:
            self._socket.close()

    def _work(self, link: socket.socket) -> None:
        """One of several workers, joined to its parent by ``link``."""
        server = _Server(self._config, (signal.SIGTERM,), lambda: link.sendall(READY), link)
        server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """Says when it accepts, and takes a stop signal as a word, not as a death: the process ends with 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        signals: tuple[signal.Signals, ...],
        on_ready: Callable[[], None],
        parent: socket.socket | None = None,
    ) -> None:
        super().__init__(config)
        self._signals = signals
        self._on_ready = on_ready
        self._parent = parent

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise SystemExit(1) from None
        settle_memory()
        if self._parent is not None:
            asyncio.get_running_loop().add_reader(self._parent, self._orphaned, self._parent)
        self._on_ready()

    def _orphaned(self, parent: socket.socket) -> None:
        """The parent died without a word: end as if it had said so."""
        asyncio.get_running_loop().remove_reader(parent)
        self.should_exit = True


def settle_memory() -> None:
    """Take what start-up made out of the garbage collector's sight, and let it look less often.

    Requests leave next to no cycles behind; looking through all modules for them again and again is pure cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _uvicorn_config(gateway: Gateway, server: ServerSettings) -> uvicorn.Config:
    context = tls_context(gateway.settings)
    options: dict[str, Any] = {
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
        "timeout_graceful_shutdown": server.graceful_shutdown,
        "ssl_context_factory": (lambda *_: context) if context is not None else None,
    }
    return uvicorn.Config(gateway, **options)


def _bind(settings: Settings) -> socket.socket:
    server = settings.get(ServerSettings)
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((server.host, server.port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        where = f"[{server.host}]" if ":" in server.host else server.host
        raise _fault(settings, "port", f"cannot listen on {where}:{server.port}: {error.strerror or error}") from None
    return bound


def _fault(settings: Settings, field: str, problem: str) -> ConfigError:
    """A fault of ``[server]``, at the place where its value was given."""
    origin = settings.origins.get(f"server.{field}", DEFAULT)
    where = "section [server]" if origin == DEFAULT else origin
    return ConfigError([ConfigFault(f"server.{field}: {problem}", where)])
