"""What the core's tests share: packages that look installed, records that were seen, and gateways over real sockets."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import Call, CallRecord, Gateway, Limiter, Observer, Permit, Usage
from gatewaykit.testing import KEY

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with entry points on ``sys.path``: ``install("acme", {"acme": "acme_mod"}, acme_mod=source)``.

    Each lies in a folder of its own. Its modules are forgotten after the test.
    """
    before = set(sys.modules)

    def add(
        distribution: str, entry_points: Mapping[str, str], *, version: str = "1.0", first: bool = True, **modules: str
    ) -> Path:
        folder = tmp_path / f"{distribution}-{version}"
        metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {target}" for name, target in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[gatewaykit]", *lines, ""]))
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(source))
        if first:
            monkeypatch.syspath_prepend(folder)
        else:
            monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
        return folder

    yield add
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def assemble() -> Callable[..., Gateway]:
    """A gateway of the default plugins and those that :func:`install` puts there, whatever else this machine has."""
    others = sorted({entry.name for entry in entry_points(group="gatewaykit")})

    def make(*plugins: object, required: tuple[str, ...] = (), blocked: tuple[str, ...] = (), **config: Any) -> Gateway:
        given = {"plugins": {"required": list(required), "blocked": [*others, *blocked]}, **config}
        return Gateway(given, plugins=plugins, environ={})

    return make


class Wire:
    """One request as an ASGI server speaks it, for tests that must see each message.

    ``hang_up`` is the client leaving; after it ``send`` does nothing, or raises if the server is of the newer kind that
    does. ``sent`` are the messages. ``listened_to`` says that the application waits for the client to leave.
    """

    def __init__(self, gateway: Gateway, path: str = "/v1/chat/completions", method: str = "POST") -> None:
        self._gateway = gateway
        self._gone = asyncio.Event()
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"authorization", f"Bearer {KEY}".encode())],
            "client": ("127.0.0.1", 4711),
        }
        self.pieces: list[bytes] = [b""]
        self.more_to_come = False
        self.listened_to = False
        self.raises = False
        self.sent: list[dict[str, Any]] = []
        self.on_send: Callable[[], Any] = lambda: None

    def ask(self, *, model: str = "m", stream: bool = False, **fields: Any) -> Wire:
        """Make it a chat request."""
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}], **fields}
        self.pieces = [json.dumps(body).encode()]
        return self

    async def run(self) -> Wire:
        """Serve the request to its end."""
        await self._gateway(self.scope, self._receive, self._send)
        return self

    def hang_up(self) -> None:
        """The client leaves."""
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if self.pieces:
            piece = self.pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self.more_to_come}
        self.listened_to = True
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._gone.is_set():
            if self.raises:
                raise OSError("the client is gone")
            return
        self.sent.append(message)
        await asyncio.sleep(0)
        self.on_send()

    @property
    def status(self) -> int:
        (start,) = [message for message in self.sent if message["type"] == "http.response.start"]
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def writes(self) -> list[bytes]:
        """What was written, send by send."""
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    @property
    def text(self) -> str:
        return b"".join(self.writes).decode()

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer in one piece, or of the last frame of a stream."""
        last = self.text.strip().rpartition("data: ")[2]
        return dict(json.loads(last)["error"])

    @property
    def ended(self) -> bool:
        """Whether the body was closed, once and last."""
        return [message.get("more_body", True) for message in self.sent].count(False) == 1 and not self.sent[-1][
            "more_body"
        ]


@pytest.fixture
def wire() -> type[Wire]:
    """An ASGI server's side of one request."""
    return Wire


class Records(Observer):
    """Keeps what it sees."""

    name = "records"

    def __init__(self) -> None:
        self.seen: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.seen.append(record)

    @property
    def only(self) -> CallRecord:
        """The one record."""
        (record,) = self.seen
        return record


@pytest.fixture
def records() -> Records:
    """An observer to put into a gateway; it has seen everything when the gateway has stopped."""
    return Records()


class Bookkeeper(Limiter):
    """Notes in ``book`` what becomes of its permits; ``refuses`` is what it raises instead of giving one. For a
    cancellation the task is cancelled, as a host does it.
    """

    def __init__(self, name: str, book: list[Any], refuses: BaseException | None = None) -> None:
        self.name = name
        self._book = book
        self._refuses = refuses

    async def acquire(self, call: Call) -> Permit:
        if isinstance(self._refuses, asyncio.CancelledError) and (task := asyncio.current_task()):
            task.cancel()
            await asyncio.sleep(0)
        if self._refuses is not None:
            raise self._refuses
        self._book.append((self.name, "acquired"))
        return _Noted(self.name, self._book)


class _Noted:
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, name: str, book: list[Any]) -> None:
        self._name = name
        self._book = book

    async def settle(self, usage: Usage | None) -> None:
        self._book.append((self._name, "settled", usage))

    async def release(self) -> None:
        self._book.append((self._name, "released"))


@pytest.fixture
def limiter() -> type[Bookkeeper]:
    """A limiter that keeps a book."""
    return Bookkeeper
