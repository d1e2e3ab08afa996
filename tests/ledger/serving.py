"""``gatewaykit serve`` as a process of its own, before an upstream that speaks OpenAI's format."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx

from gatewaykit.testing import Upstream, until
from gatewaykit.testing.processes import children_of

from ..e2e import openai_upstream

KEY = "gk_ledger_0123456789abcdefghij"
MODEL = "gpt-sandbox"
_CONFIG = """
[database]
url = "{database}"
[ledger]
outbox = "{outbox}"
[static_keys.keys]
main = "{key}"
[plugins]
blocked = {blocked}
[openai.upstreams.openai]
base_url = "{upstream}/v1"
api_key = "{credential}"
"""


def chat(text: str, **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def upstream_section(upstream: Upstream) -> dict[str, Any]:
    """``[openai]`` with this upstream."""
    return {"upstreams": {"openai": {"base_url": f"{upstream.url}/v1", "api_key": openai_upstream.CREDENTIAL}}}


class Served:
    """The running program."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._said = folder / "errors"
        self._said.write_text("")
        with self._said.open("ab") as errors:
            self.process = subprocess.Popen(
                [str(Path(sysconfig.get_path("scripts")) / "gatewaykit"), "serve", "--port", "0", *options],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    async def url(self) -> str:
        """Its address, as soon as it serves."""
        await until(lambda: "serves at" in self.said or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.said
        return self.said.partition("serves at ")[2].split()[0].rstrip('",}')

    @property
    def said(self) -> str:
        """All that it has written."""
        return self._said.read_text()

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers."""
        return children_of(self.process.pid)

    def kill(self) -> None:
        """End all of its processes with no chance to say a word."""
        everyone = self.workers if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for pid in everyone:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 60)


@contextmanager
def served(folder: Path, database: str, upstream: Upstream, *options: str, sections: str = "") -> Iterator[Served]:
    """``gatewaykit serve`` with a ledger, gone at the end of the block. ``sections`` are more of its configuration."""
    (folder / "gatewaykit.toml").write_text(
        _CONFIG.format(
            database=database,
            outbox=folder / "outbox",
            key=KEY,
            blocked=[entry.name for entry in entry_points(group="gatewaykit") if entry.name != "openai"],
            upstream=upstream.url,
            credential=openai_upstream.CREDENTIAL,
        )
        + sections
    )
    running = Served(folder, *options)
    try:
        yield running
    finally:
        running.kill()


def client(url: str) -> httpx.AsyncClient:
    """A client with the key."""
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)
