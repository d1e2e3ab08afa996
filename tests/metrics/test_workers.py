"""Four workers as a user starts them: every scrape is the whole, and no total falls."""

from __future__ import annotations

import asyncio
import os
import signal
from importlib.metadata import entry_points
from pathlib import Path

import aiohttp
import pytest

from gatewaykit.metrics import names
from gatewaykit.testing import Upstream

from ..e2e import openai_upstream
from ..ledger.serving import Served
from .conftest import Scrape

KEY = "gk_workers_0123456789abcdefghij"
MODEL = "gpt-sandbox"
CALLS = 2000
_CHANGES_BY_ITSELF = ("gatewaykit_process_", "gatewaykit_hook_")


class Client:
    """Calls and scrapes, each scrape over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def call(self, times: int) -> None:
        """So many calls over forty connections."""
        turns = iter(range(times))
        body = {"model": MODEL, "messages": [{"role": "user", "content": "say 3 words"}]}

        async def take_turns(session: aiohttp.ClientSession) -> None:
            for _ in turns:
                async with session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()

        connector = aiohttp.TCPConnector(limit=40)
        headers = {"authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            await asyncio.gather(*(take_turns(session) for _ in range(40)))

    async def scrape(self) -> Scrape:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}/metrics") as answer:
            assert answer.status == 200, await answer.text()
            return Scrape(await answer.text())


def counters(seen: Scrape) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All that may only grow, but for what grows by itself."""
    growing = [family for family, kind in seen.families.items() if kind in {"counter", "histogram"}]
    return {
        (name, labels): value
        for name, samples in seen.items()
        for labels, value in samples.items()
        if name.startswith(tuple(growing)) and not name.startswith(_CHANGES_BY_ITSELF)
    }


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    blocked = [entry.name for entry in entry_points(group="gatewaykit") if entry.name != "openai"]
    (tmp_path / "gatewaykit.toml").write_text(
        f"[static_keys.keys]\nmain = '{KEY}'\n[plugins]\nblocked = {blocked}\n[router.aliases]\n"
        f"'{MODEL}' = ['openai/{MODEL}']\n[log]\naccess = false\n"
    )
    return tmp_path


async def test_every_scrape_is_the_whole_and_no_total_falls(configured: Path) -> None:
    """2 000 calls over four workers: twenty scrapes agree to the last call; a worker that is killed takes nothing
    along, and the one in its place goes on counting.
    """
    async with Upstream(openai_upstream.serve) as upstream:
        with (configured / "gatewaykit.toml").open("a") as config:
            credential = openai_upstream.CREDENTIAL
            config.write(f"[openai.upstreams.openai]\nbase_url = '{upstream.url}/v1'\napi_key = '{credential}'\n")
        served = Served(configured, "--workers", "4")
        try:
            client = Client(await served.url())
            await client.call(CALLS)
            scrapes = [await client.scrape() for _ in range(20)]
            assert list(scrapes[0][names.WORKER_DEATHS.prometheus].values()) == [0]
            for seen in scrapes:
                assert seen.total(names.CALLS) == seen.total(names.HTTP_DURATION) == CALLS
                assert seen.total(names.CLIENT_DURATION) == CALLS
                assert seen.total(names.WORKERS) == 4
                assert counters(seen) == counters(scrapes[0])
            os.kill(served.workers[0], signal.SIGKILL)
            last = scrapes[-1]
            for _ in range(20):
                seen = await client.scrape()
                now = counters(seen)
                assert all(now[series] >= value for series, value in counters(last).items())
                last = seen
            await client.call(200)
            assert (await client.scrape()).total(names.CALLS) == CALLS + 200
            async with asyncio.timeout(60):
                while (seen := await client.scrape()).total(names.WORKERS) != 4:
                    await asyncio.sleep(0)
            assert seen.total(names.WORKER_DEATHS) == 1
            assert await served.stop() == 0
        finally:
            served.kill()
