"""All that stands between an SDK and a model, on real sockets: a gateway, a GigaChat sandbox, an OpenAI upstream.

The gateway writes down all that it answers and logs, so that what must stay secret can be looked for afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import msgspec
from anyio.from_thread import start_blocking_portal
from loguru import logger

from gatewaykit import Gateway
from gatewaykit.logs import Structured, encode_line
from gatewaykit.testing import Upstream, running
from gatewaykit_gigachat.sandbox import B2B, RunningSandbox, SandboxSettings, running_sandbox

from . import openai_upstream

KEY = "gk_canary_main_0123456789abcdef"
LIMITED_KEY = "gk_canary_limited_0123456789abcdef"
PROMPT = "canaryPromptNobodyLogs"
"""A word for the prompts of requests that fail: it may neither be logged nor told back."""

GIGACHAT, GPT = "GigaChat-2-Max", "gpt-sandbox"
SMALL = ("GigaChat-2", "gpt-small")
"""What the limited key may use."""

_UPKEEP = frozenset({"gigachat-default"})
"""The one task that asks for a refused credential until it is taken again: it outlives the call that met this."""

_CLIENT_SIDE = ("openai", "httpx2", "httpcore2", "hypothesis")


def provider_of(model: str) -> str:
    """The name of the provider that has ``model``."""
    return "gigachat" if model.startswith("GigaChat") else "openai"


class Recording(Gateway):
    """A gateway that keeps what it sent, knows its event loop, and how many requests it waits for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: list[tuple[int, bytes]] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.receiving = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        status = 0

        async def noting(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            if message.get("body"):
                self.sent.append((status, message["body"]))
            await send(message)

        async def received() -> Any:
            self.receiving += 1
            try:
                return await receive()
            finally:
                self.receiving -= 1

        await super().__call__(scope, received, noting)


@dataclass
class World:
    """One gateway and what is behind it. ``log`` is what was logged, ``access`` the access log as JSON."""

    url: str
    gateway: Recording
    sandbox: RunningSandbox
    upstream: Upstream
    access: list[str]
    log: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """For the SDK."""
        return f"{self.url}/v1"

    @property
    def address(self) -> tuple[str, int]:
        """For sockets."""
        url = httpx.URL(self.url)
        return url.host, url.port or 0

    def counts(self) -> dict[str, int]:
        """What must not pile up: tasks of the gateway, and calls in progress upstream."""
        loop, stats = self.gateway.loop, self.sandbox.stats
        assert loop is not None
        return {
            "tasks": sum(task.get_name() not in _UPKEEP for task in asyncio.all_tasks(loop)),
            "live streams": stats.live_streams,
            "parallel requests": stats.parallel,
            "held answers": self.upstream.held,
        }

    def records(self) -> list[dict[str, Any]]:
        """The access log."""
        return [msgspec.json.decode(line) for line in self.access]

    def record(self, request_id: str) -> dict[str, Any]:
        """The access log's line for one request, as soon as it is there."""

        def found() -> list[dict[str, Any]]:
            return [record for record in self.records() if record["request_id"] == request_id]

        eventually(found)
        (record,) = found()
        return record

    def leaks(self) -> list[str]:
        """Where something shows that must not: in logs, in any answer, or in an error's."""
        internal = self._internal()
        logged = [*self.log, *self.access]
        refusals = [_text(body) for status, body in self.gateway.sent if status >= 400 or b'{"error"' in body]
        answers = [_text(body) for _, body in self.gateway.sent]
        return [
            *_showing(answers, internal | {KEY, LIMITED_KEY}),
            *_showing(refusals, {PROMPT, "Traceback", 'File "', *self._addresses()}),
            *_showing(logged, internal | {KEY, LIMITED_KEY, PROMPT}),
        ]

    def _internal(self) -> set[str]:
        presented = {entry.headers.get("authorization", "") for entry in self.sandbox.journal.entries()}
        tokens = {given.partition(" ")[2] for given in presented} - {""}
        return {openai_upstream.CREDENTIAL, self.sandbox.key(B2B), "sandbox-secret", *tokens}

    def _addresses(self) -> set[str]:
        return {"10.11.12.13", *(url.removeprefix("http://") for url in (self.sandbox.url, self.upstream.url))}


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def _showing(texts: list[str], forbidden: set[str]) -> list[str]:
    return [f"{word!r} in {text[:2000]!r}" for text in texts for word in forbidden if word in text]


def _sockets(ports: set[int]) -> tuple[int, int]:
    """This process's TCP sockets with one of ``ports`` at either end, and its sockets of other kinds than TCP.

    Other worlds live beside this one and keep connections of their own, more of them or fewer from moment to moment.
    """
    tables = [Path(f"/proc/self/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    ends = {row[9]: {_port(row[1]), _port(row[2])} for row in (line.split() for table in tables for line in table)}
    here = others = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            kind, _, inode = str(link.readlink()).partition(":")
        except OSError:
            continue  # it was closed meanwhile
        if kind == "socket":
            found = ends.get(inode.strip("[]"))
            others += found is None
            here += found is not None and not ports.isdisjoint(found)
    return here, others


def _port(end: str) -> int:
    return int(end.rpartition(":")[2], 16)


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Return as soon as ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.002)


@contextmanager
def unharmed(world: World) -> Iterator[None]:
    """Whatever happens in the block, nothing of it is left over."""
    before = world.counts()
    yield
    try:
        eventually(lambda: all(now <= before[name] for name, now in world.counts().items()))
    except AssertionError:
        raise AssertionError(f"left over: {before} became {world.counts()}") from None


@contextmanager
def inhabited(
    *, parallel: int = 10, listed: tuple[str, ...] = (GIGACHAT, GPT), **sections: Mapping[str, Any]
) -> Iterator[World]:
    """A world until the block ends, which fails if anything leaked. ``sections`` change the gateway's configuration.

    GigaChat takes ``parallel`` requests at a time. The world begins when the models ``listed`` are known.
    """
    _, others = _sockets(set())
    upstream = Upstream(openai_upstream.serve)
    settings = SandboxSettings(words_per_event=2, parallel={B2B: parallel})
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(upstream),
        running_sandbox(settings) as sandbox,
        _logged() as log,
        _accessed() as access,
    ):
        gateway = Recording(_configuration(sandbox, upstream, sections), environ={})
        with running(gateway) as url:
            world = World(url, gateway, sandbox, upstream, access, log)
            ports = {httpx.URL(address).port or 0 for address in (url, sandbox.url, upstream.url)}
            _wait_for_models(world, set(listed))
            with unharmed(world):
                yield world
            portal.call(upstream.release)
        assert not world.leaks()
    eventually(lambda: _sockets(ports) <= (0, others))


def _configuration(
    sandbox: RunningSandbox, upstream: Upstream, sections: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    wanted = {"gigachat", "openai"}
    usual: dict[str, dict[str, Any]] = {
        "static_keys": {"keys": {"main": KEY, "limited": LIMITED_KEY}, "models": {"limited": SMALL}},
        "log": {"format": "json"},
        "retries": {"attempts": 0},
        "breaker": {"enabled": False},
        "plugins": {"blocked": [each.name for each in entry_points(group="gatewaykit") if each.name not in wanted]},
        "gigachat": {
            "base_url": sandbox.base_url,
            "auth_url": sandbox.auth_url,
            "credentials": sandbox.key(B2B),
            "scope": B2B,
            "max_retries": 1,
            "retry_backoff_factor": 0.001,
            "retry_max_wait": 0.05,
        },
        "openai": {"upstreams": {"openai": {"base_url": f"{upstream.url}/v1", "api_key": openai_upstream.CREDENTIAL}}},
        "router": {"aliases": {"either": [f"gigachat/{GIGACHAT}", f"openai/{GPT}"]}},
    }
    return {name: {**usual.get(name, {}), **sections.get(name, {})} for name in {**usual, **sections}}


def _wait_for_models(world: World, wanted: set[str]) -> None:
    """Which provider has a model is known once both have listed theirs."""

    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=world.base_url, headers=headers, trust_env=False) as client:
        eventually(lambda: wanted <= {model["id"] for model in client.get("/models").json()["data"]})


@contextmanager
def _logged() -> Iterator[list[str]]:
    """All that is logged meanwhile, down to the last detail, but by what stands for the client."""
    lines: list[str] = []
    handler = _Lines(lines)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    sink = logger.add(lambda line: lines.append(str(line)), level=0, backtrace=True, diagnose=False)
    try:
        yield lines
    finally:
        logger.remove(sink)
        root.removeHandler(handler)
        root.setLevel(level)


@contextmanager
def _accessed() -> Iterator[list[str]]:
    """The access log's lines, as a machine gets them."""
    lines: list[str] = []
    handler = _Documents(lines)
    access = logging.getLogger("gatewaykit.access")
    access.addHandler(handler)
    try:
        yield lines
    finally:
        access.removeHandler(handler)


class _Documents(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.msg, Structured)
        self._lines.append(encode_line(record.msg.as_document(str)).decode())


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in _CLIENT_SIDE:
            self._lines.append(self.format(record))
