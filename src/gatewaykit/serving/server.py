"""The gateway on a socket: uvicorn with uvloop and httptools, one process or several."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from gatewaykit.app import Gateway
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.serving.heads import limited_protocol
from gatewaykit.serving.sharing import FairAcceptor, Shares
from gatewaykit.serving.supervision import READY, RELOAD_SIGNAL, STOP_SIGNALS, Supervisor
from gatewaykit.settings import DEFAULT, ServerSettings, Settings
from gatewaykit.settings.messages import printable

logger = logging.getLogger(__name__)
_BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_keys(gateway: Gateway) -> None:
    """Refuse to be reachable from elsewhere with no authenticator, or from here where not even a key for the run can be
    made. Raises :class:`~gatewaykit.errors.ConfigError`.
    """
    if gateway.guarded:
        return
    server = gateway.settings.get(ServerSettings)
    if all(plugin.name != "static-keys" or plugin.status != "active" for plugin in gateway.plugins):
        raise ConfigError([ConfigFault("static-keys is blocked, and no other plugin says who may call", "plugins")])
    if not is_loopback(server.host):
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
        self._shares = Shares(server.workers)
        self._gateway = gateway
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
                Supervisor(self._workers, self._work, self._reload).run(on_ready, on_stop=self._socket.close)
            else:
                signal.pthread_sigmask(signal.SIG_BLOCK, (RELOAD_SIGNAL,))  # until it serves, when it is heeded
                server = _Server(self._config, STOP_SIGNALS, on_ready, self._reload, self._gateway.stopping)
                server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def _work(self, number: int, link: socket.socket, tally: socket.socket) -> None:
        """One of several workers, joined to its parent by ``link``, and by ``tally`` for what it counts."""
        self._shares.leave(number)  # whoever had this number before may have died without a word
        self._gateway.tally.join(tally)
        self._gateway.tell_others = lambda: os.kill(os.getppid(), RELOAD_SIGNAL)
        tell = partial(link.sendall, READY)
        stop = self._gateway.stopping
        server = _Worker(self._config, tell, self._reload, stop, link, self._shares, number)
        server.run(sockets=[self._socket])

    def _reload(self) -> bool:
        """The configuration may have changed; one with faults is told of in the log, and changes nothing."""
        try:
            self._gateway.reload()
        except ConfigError as error:
            for fault in error.faults:
                logger.error("the configuration stays as it was: %s", fault)
            return False
        return True


class _Server(uvicorn.Server):
    """Says when it accepts, and takes a stop signal as a word, not as a death: the process ends with 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        signals: tuple[signal.Signals, ...],
        on_ready: Callable[[], None],
        on_reload: Callable[[], bool],
        on_stop: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._signals = signals
        self._on_ready = on_ready
        self._on_reload = on_reload
        self._on_stop = on_stop

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with suppress(asyncio.CancelledError):
            super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A start is given up at once, and at a second Ctrl-C everything: what it waits for may never come."""
        gives_up = not self.started or (self.should_exit and sig == signal.SIGINT)
        super().handle_exit(sig, frame)
        if gives_up:
            self._loop.call_soon_threadsafe(self._main.cancel)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        self._main = cast("asyncio.Task[None]", asyncio.current_task())
        before = {number: signal.signal(number, self.handle_exit) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._listen(sockets or [])
        except SystemExit:
            raise SystemExit(1) from None
        settle_memory()
        asyncio.get_running_loop().add_signal_handler(RELOAD_SIGNAL, self._on_reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (RELOAD_SIGNAL,))
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)

    async def _listen(self, sockets: list[socket.socket]) -> None:
        await super().startup(sockets)


class _Worker(_Server):
    """One of several that accept on one socket; it ends when its parent does."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        on_reload: Callable[[], bool],
        on_stop: Callable[[], None],
        parent: socket.socket,
        shares: Shares,
        number: int,
    ) -> None:
        super().__init__(config, (signal.SIGTERM,), on_ready, on_reload, on_stop)
        self._parent = parent
        self._shares = shares
        self._number = number

    async def _listen(self, sockets: list[socket.socket]) -> None:
        await super()._listen([])
        (listener,) = sockets
        acceptor = FairAcceptor(listener, self._shares, self._number, self._create_protocol, self.config.ssl)
        self.server_state.connections = acceptor.connections
        self.servers.append(cast("asyncio.Server", acceptor))
        acceptor.start()
        asyncio.get_running_loop().add_reader(self._parent, self._orphaned)

    def _create_protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = cast("Any", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _orphaned(self) -> None:
        """The parent died without a word: end as if it had said so."""
        asyncio.get_running_loop().remove_reader(self._parent)
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
        "forwarded_allow_ips": _with_mapped(server.trusted_proxies),
        "root_path": server.root_path,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": server.graceful_shutdown,
        "ssl_context_factory": (lambda *_: context) if context is not None else None,
    }
    return uvicorn.Config(gateway, **options)


def _with_mapped(proxies: tuple[str, ...]) -> list[str]:
    """The same, and what IPv4 ones are called by a socket that serves IPv6 too (RFC 4291, 2.5.5.2)."""
    networks = [ipaddress.ip_network(proxy) for proxy in proxies if proxy != "*"]
    mapped = [f"::ffff:{net.network_address}/{96 + net.prefixlen}" for net in networks if net.version == 4]
    return [*proxies, *mapped]


def _bind(settings: Settings) -> socket.socket:
    server = settings.get(ServerSettings)
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((server.host, server.port))
        bound.listen(_BACKLOG)
    except (OSError, TypeError) as error:  # TypeError: a text that is no host name
        bound.close()
        blamed = "port" if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES) else "host"
        reason = getattr(error, "strerror", None) or "this is no address"
        where = f"[{server.host}]" if ":" in server.host else printable(server.host)
        raise _fault(settings, blamed, f"cannot listen on {where}:{server.port}: {reason}") from None
    return bound


def _fault(settings: Settings, field: str, problem: str) -> ConfigError:
    """A fault of ``[server]``, at the place where its value was given."""
    origin = settings.origins.get(f"server.{field}", DEFAULT)
    where = "section [server]" if origin == DEFAULT else origin
    return ConfigError([ConfigFault(f"server.{field}: {problem}", where)])
