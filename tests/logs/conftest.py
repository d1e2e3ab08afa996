"""``gatewaykit serve`` as a process of its own, before an upstream of OpenAI's format, with the logs that it writes."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewaykit.testing import Upstream

from ..cli.conftest import Place, Running
from ..e2e import openai_upstream

KEY = "operator-canary-0a1b2c3d4e5f"
MODEL = "gpt-sandbox"
_CONFIG = """
[static_keys.keys]
operator = "{key}"
[plugins]
blocked = {blocked}
[openai.upstreams.openai]
base_url = "{upstream}/v1"
api_key = "{credential}"
"""
Serve = Callable[..., Running]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The provider."""
    async with Upstream(openai_upstream.serve) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def serve(place: Place, upstream: Upstream) -> Iterator[Serve]:
    """Start a gateway with further configuration and options; ended with the test."""
    with ExitStack() as stack:

        def start(more: str = "", *options: str, stdout: int | None = None) -> Running:
            blocked = [entry.name for entry in entry_points(group="gatewaykit") if entry.name not in {"openai", "tank"}]
            config = _CONFIG.format(
                key=KEY, blocked=blocked, upstream=upstream.url, credential=openai_upstream.CREDENTIAL
            )
            place.configure(config + more)
            return stack.enter_context(place.start("serve", "--port", "0", *options, stdout=stdout))

        yield start


def asking(gateway: Running) -> httpx.AsyncClient:
    """A client with the key."""
    headers = {"authorization": f"Bearer {KEY}"}
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=gateway.address, headers=headers, timeout=60, trust_env=False, limits=limits)


def chat(text: str, **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def documents(*texts: str) -> list[dict[str, Any]]:
    """All lines, which are JSON objects."""
    found = [json.loads(line) for text in texts for line in text.splitlines()]
    assert all(isinstance(each, dict) for each in found)
    return found


def logged(folder: Path, name: str = "gateway") -> list[str]:
    """The texts of a log's files, those put aside too."""
    texts = [gzip.decompress(path.read_bytes()).decode() for path in sorted(folder.glob(f"{name}.*.log.gz"))]
    return [*texts, *(path.read_text() for path in sorted(folder.glob(f"{name}*.log")))]
