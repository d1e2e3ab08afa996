"""The drill: load, a backup, more load, a death without a word, the backup put back, and the gateway goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from gatewaykit.cli import main
from gatewaykit.testing import Upstream

from ..e2e import openai_upstream
from ..ledger.conftest import counted
from ..ledger.serving import Served, chat
from ..storage.conftest import storage_at

OPERATOR = "operator-0a1b2c3d4e5f6071"
CONFIG = """
[database]
url = "sqlite:///{folder}/books.db"
[keys]
pepper = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"
[static_keys]
keys = {{ operator = "{operator}" }}
scopes = {{ operator = ["admin", "inference", "keys"] }}
[openai.upstreams.openai]
base_url = "{upstream}/v1"
api_key = "{credential}"
"""


async def made(client: httpx.AsyncClient, name: str) -> str:
    """A new key's secret."""
    headers = {"authorization": f"Bearer {OPERATOR}"}
    answer = await client.post("/api/admin/keys", json={"name": name}, headers=headers)
    secret: str = answer.json()["secret"]
    return secret


async def ask(client: httpx.AsyncClient, key: str) -> int:
    """One call; its status."""
    headers = {"authorization": f"Bearer {key}"}
    return (await client.post("/v1/chat/completions", json=chat("say 3 words"), headers=headers)).status_code


async def load(client: httpx.AsyncClient, key: str) -> None:
    """Calls until the gateway is gone."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            await ask(client, key)


def command(folder: Path, *arguments: str) -> Any:
    """``gatewaykit`` in this process, with the configuration of the gateway."""
    return CliRunner().invoke(main, [*arguments, "--config", str(folder / "gatewaykit.toml")], env={})


async def test_what_a_backup_holds_is_there_again(tmp_path: Path) -> None:
    """A key that was made before works, one that was made after is unknown, and the books agree with themselves."""
    async with Upstream(openai_upstream.serve) as upstream:
        given = {"folder": tmp_path, "upstream": upstream.url, "credential": openai_upstream.CREDENTIAL}
        (tmp_path / "gatewaykit.toml").write_text(CONFIG.format(operator=OPERATOR, **given))
        gateway = Served(tmp_path, "--workers", "2")
        try:
            async with httpx.AsyncClient(base_url=await gateway.url(), timeout=60, trust_env=False) as client:
                before = await made(client, "before")
                loading = asyncio.create_task(load(client, before))
                done = await asyncio.to_thread(command, tmp_path, "backup", "create")
                assert done.exit_code == 0, done.output
                refused = await asyncio.to_thread(command, tmp_path, "backup", "restore", "--force")
                assert refused.exit_code == 1
                assert "in use by a running gateway" in refused.output
                after = await made(client, "after")
                assert await ask(client, after) == 200
                gateway.kill()
                await loading
        finally:
            gateway.kill()
        done = await asyncio.to_thread(command, tmp_path, "backup", "restore", "--force")
        assert done.exit_code == 0, done.output
        gateway = Served(tmp_path, "--workers", "2")
        try:
            async with httpx.AsyncClient(base_url=await gateway.url(), timeout=60, trust_env=False) as client:
                assert [await ask(client, key) for key in (before, after)] == [200, 401]
            assert await gateway.stop() == 0
        finally:
            gateway.kill()
    with storage_at(f"sqlite:///{tmp_path}/books.db").opened() as books:
        records, hours, days = counted(books)
    assert records == hours == days >= 2
