"""The page on usage and prices, in both languages: its configuration loads, its figures are right, its commands run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from gatewaykit import Gateway, Target, Usage
from gatewaykit.builtin.ledger import LedgerSettings
from gatewaykit.pricing import PriceBook

from .conftest import asking

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/usage-and-prices.md", "docs/ru/usage-and-prices.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_price_list_of_the_page_is_one(page: str, tmp_path: Path) -> None:
    """It loads as it stands, and the call that the page reckons up costs what the page says."""
    (toml,) = blocks(page, "toml")
    (tmp_path / "gatewaykit.toml").write_text(toml)
    gateway = Gateway(tmp_path / "gatewaykit.toml", environ={})
    cost = PriceBook.of(gateway).cost(Target("gigachat", "GigaChat-2-Max"), Usage(1200, 300))
    assert cost is not None
    assert (cost.amount, cost.currency) == (975_000, "RUB")
    assert re.search(r"= 0[.,]975 ", (ROOT / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_retention_is_as_the_page_says(page: str) -> None:
    """The table has the defaults of the settings."""
    text = (ROOT / page).read_text()
    defaults = LedgerSettings.model_validate({})
    assert re.search(rf"\| {defaults.keep_records} \S+ \| `keep_records` \|", text)
    assert re.search(rf"\| {defaults.keep_hours} \S+ \| `keep_hours` \|", text)
    assert defaults.keep_days == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("page", PAGES)
async def test_the_commands_of_the_page_run(page: str, sqlite_url: str, tmp_path: Path) -> None:
    """Each is answered by a gateway, with figures in JSON or in a file."""
    async with asking(sqlite_url) as client:
        await client.call("alice", "fake/gpt-5")
        total = await client.until("alice", "/v1/usage", lambda answer: answer["total"]["requests"] == 1)
        environ = {
            **os.environ,
            "GATEWAY": str(client.http.base_url),
            "KEY": "alice",
            "ADMIN_KEY": "root",
            "NO_PROXY": "*",
        }
        commands = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("curl")]
        assert len(commands) == 8
        for command in commands:
            process = await asyncio.create_subprocess_shell(
                command, stdout=asyncio.subprocess.PIPE, cwd=tmp_path, env=environ
            )
            out, _ = await process.communicate()
            assert process.returncode == 0, command
            if " -o " not in command:
                assert json.loads(out)["object"] in {"usage", "list", "prices"}
        assert total["total"]["requests"] == 1
    assert len((tmp_path / "calls.csv").read_text().splitlines()) == 2
    assert (tmp_path / "mine.csv").read_text().startswith('"begins","model","requests",')


@pytest.mark.parametrize("page", PAGES)
async def test_the_answer_of_the_page_has_the_fields_of_a_real_one(page: str, sqlite_url: str) -> None:
    """The shape shown is the shape sent, field by field and in this order."""
    (shown,) = (json.loads(block) for block in blocks(page, "json"))
    async with asking(sqlite_url) as client:
        await client.call("alice", "fake/gpt-5")
        real = await client.until("alice", "/v1/usage", lambda answer: bool(answer["data"]), group="model")
        assert list(real) == list(shown)
        assert list(real["data"][0]) == list(shown["data"][0])
        assert list(real["total"]) == list(shown["data"][0])[2:]
