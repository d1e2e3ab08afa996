"""Who is measured: commands, and the request each of them gets."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .build import HERE
from .failures import BenchError

ROOT = HERE.parent
REFERENCE = "starlette"
DIRECT = "direct"
KEY = "gk_bench_0123456789abcdef0123456789abcdef"
CHAT_PATH = "/v1/chat/completions"
SYSTEM = "You answer briefly, in plain words, and you say so when you do not know. " * 6
QUESTION = "What does a gateway between programs and language models do, and what may it cost? " * 5


@dataclass(frozen=True)
class Launch:
    """What a command needs to know."""

    port: int
    upstream_port: int
    workers: int
    directory: Path


@dataclass(frozen=True)
class Exchange:
    """One chat request as the generator sends it: about 1 kB of JSON."""

    path: str
    headers: tuple[str, ...]
    body: str
    stream_body: str


@dataclass(frozen=True)
class Subject:
    """Something that answers chat requests. `command` is None for the mock upstream itself."""

    name: str
    label: str
    exchange: Exchange
    command: Callable[[Launch], list[str]] | None


def exchange(model: str, headers: tuple[str, ...] = (), path: str = CHAT_PATH) -> Exchange:
    """The chat request for a model, complete and as a stream."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    body = {"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 512}
    return Exchange(
        path=path,
        headers=("Content-Type: application/json", *headers),
        body=json.dumps(body),
        stream_body=json.dumps({**body, "stream": True}),
    )


def direct() -> Subject:
    """The mock upstream without anything in front of it."""
    return Subject(DIRECT, "upstream itself", exchange("gpt-test"), None)


def references() -> list[Subject]:
    """The relays without features."""
    return [
        Subject("starlette", "reference: Starlette", exchange("gpt-test"), _reference("starlette")),
        Subject("asgi", "reference: bare ASGI", exchange("gpt-test"), _reference("asgi")),
    ]


def gateways() -> list[Subject]:
    """This gateway with its defaults on: bytes passed through to OpenAI's shape, and translated to GigaChat's."""
    key = (f"Authorization: Bearer {KEY}",)
    return [
        Subject("passthrough", "gateway: pass-through", exchange("gpt-test", key), _gateway),
        Subject("translation", "gateway: GigaChat", exchange("gigachat/GigaChat-2", key), _gateway),
    ]


def peers(
    commands: list[str], headers: list[str], models: list[str], paths: list[str], upstream_port: int
) -> list[Subject]:
    """Peers from `NAME=TEXT` options; templates may hold {port}, {upstream_port} and {workers}."""
    all_headers = [_pair(text) for text in headers]
    of_model, of_path = dict(map(_pair, models)), dict(map(_pair, paths))
    found = []
    for name, template in map(_pair, commands):
        own = tuple(text.format(upstream_port=upstream_port) for owner, text in all_headers if owner == name)
        request = exchange(of_model.get(name, "gpt-test"), own, of_path.get(name, CHAT_PATH))
        found.append(Subject(name, f"peer: {name}", request, _peer(template)))
    return found


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name or not value:
        raise BenchError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _reference(kind: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        return [
            *(own_python(), str(HERE / "references.py"), kind),
            f"--port={launch.port}",
            f"--upstream-port={launch.upstream_port}",
            f"--workers={launch.workers}",
        ]

    return command


def _gateway(launch: Launch) -> list[str]:
    return serve(launch, "gateway", gateway_config(launch))


def serve(launch: Launch, name: str, configuration: str) -> list[str]:
    """The command of a gateway with this configuration."""
    config = launch.directory / f"{name}-{launch.port}.toml"
    config.write_text(configuration)
    return [str(ROOT / ".venv/bin/gatewaykit"), "serve", "--config", str(config)]


def gateway_config(launch: Launch) -> str:
    """A gateway with its defaults, one static key and two upstreams."""
    upstream = f"http://127.0.0.1:{launch.upstream_port}"
    return f"""\
[server]
host = "127.0.0.1"
port = {launch.port}
workers = {launch.workers}

[static_keys.keys]
bench = "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"

[openai.upstreams.mock]
base_url = "{upstream}/v1"
api_key = "sk-upstream"

[gigachat]
base_url = "{upstream}/api/v1"
auth_url = "{upstream}/api/v2/oauth"
credentials = "{base64.b64encode(b"bench:bench").decode()}"
parallel = 0
"""


def _peer(template: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        values = {"port": launch.port, "upstream_port": launch.upstream_port, "workers": launch.workers}
        return shlex.split(template.format(**values))

    return command


def own_python() -> str:
    """The Python that has the gateway."""
    own = ROOT / ".venv/bin/python"
    return str(own) if own.exists() else sys.executable
