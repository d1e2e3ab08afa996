"""A sandbox on a real socket, in a thread of its own."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from .app import NEW_PREFIX, OAUTH_PATH, OLD_PREFIX, create_sandbox
from .faults import FaultQueue
from .settings import PERS, SandboxSettings
from .state import Sandbox
from .stats import Journal, Stats

STOP_SECONDS = 30.0


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of the server; with ``client_ca`` a client certificate signed by it is demanded."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that answers now. ``url`` is its root, without a path."""

    url: str
    sandbox: Sandbox

    @property
    def base_url(self) -> str:
        """The API as on the older host, ``…/api/v1``."""
        return self.url + OLD_PREFIX

    @property
    def new_base_url(self) -> str:
        """The API as on ``api.giga.chat``, ``…/v1``."""
        return self.url + NEW_PREFIX

    @property
    def auth_url(self) -> str:
        """The OAuth endpoint."""
        return self.url + OAUTH_PATH

    @property
    def credentials(self) -> str:
        """The authorization key of the first client of scope ``GIGACHAT_API_PERS``, or of the first client."""
        return self.key(PERS)

    def key(self, scope: str) -> str:
        """The authorization key of the first client of ``scope``, or of the first client."""
        clients = self.sandbox.settings.clients
        return next((client for client in clients if client.scope == scope), clients[0]).key

    @property
    def user_key(self) -> str:
        """base64 of ``user:password`` of the first account."""
        account = self.sandbox.settings.accounts[0]
        return base64.b64encode(f"{account.user}:{account.password}".encode()).decode()

    @property
    def stats(self) -> Stats:
        """The counters."""
        return self.sandbox.stats

    @property
    def faults(self) -> FaultQueue:
        """Faults for requests to come."""
        return self.sandbox.faults

    @property
    def journal(self) -> Journal:
        """The latest requests."""
        return self.sandbox.journal


_KEEP_ALIVE = 75
"""Seconds for which nginx, which stands before the service, leaves a connection open that nobody uses."""


class SandboxServer(uvicorn.Server):
    """Tells when it is ready, and cuts what is still open when it stops."""

    def __init__(self, app: Starlette, tls: TlsFiles | None = None) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        if tls is not None:
            _secure(config, tls)
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _secure(config: uvicorn.Config, tls: TlsFiles) -> None:
    config.ssl_certfile, config.ssl_keyfile = str(tls.certificate), str(tls.key)
    if tls.client_ca is not None:
        config.ssl_ca_certs, config.ssl_cert_reqs = str(tls.client_ca), ssl.CERT_REQUIRED


def bound_socket(host: str, port: int) -> socket.socket:
    """A TCP socket bound to ``host``; port 0 lets the system choose. Raises :class:`OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(512)
    except OSError:
        bound.close()
        raise
    return bound


def url_of(bound: socket.socket, scheme: str = "http") -> str:
    """The URL under which ``bound`` is reached."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextmanager
def running_sandbox(
    settings: SandboxSettings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: TlsFiles | None = None,
) -> Iterator[RunningSandbox]:
    """Run a sandbox until the block ends; connections still open then are cut."""
    app = create_sandbox(settings)
    server = SandboxServer(app, tls)
    bound = bound_socket(host, port)
    url = url_of(bound, "http" if tls is None else "https")
    thread = threading.Thread(target=server.run, args=([bound],), name="gigachat-sandbox", daemon=True)
    thread.start()
    try:
        if not server.ready.wait(STOP_SECONDS):
            raise RuntimeError("the sandbox did not start")
        yield RunningSandbox(url, app.state.sandbox)
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        bound.close()
