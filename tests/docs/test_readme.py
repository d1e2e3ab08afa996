"""The Python of the READMEs and of the page on mounting runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewaykit import Finished, Gateway, TextDelta
from gatewaykit.testing import KEY, FakeProvider, gateway_client, make_gateway, plugin_of, running
from gatewaykit_gigachat.sandbox import running_sandbox

ROOT = Path(__file__).resolve().parents[2]
READMES = ["README.md", "README.ru.md"]


def python_of(page: str) -> list[str]:
    """The Python code blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", READMES)
def test_first_request_of_the_readme_is_answered(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first request by the official SDK, with address and key of a gateway like the demo's."""
    (code,) = [block for block in python_of(page) if "OpenAI(" in block]
    with running_sandbox() as sandbox:
        account = {"base_url": sandbox.base_url, "auth_url": sandbox.auth_url, "credentials": sandbox.credentials}
        with running(make_gateway(gigachat=account)) as address:
            code = re.sub(r"http://127\.0\.0\.1:\d+", address, code).replace("gk_demo_…", KEY)
            exec(compile(code, page, "exec"), {})
    assert "GigaChat" in capsys.readouterr().out


@pytest.mark.parametrize("page", READMES)
async def test_mounting_of_the_readme_serves(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FastAPI application of the README answers below its prefix."""
    (code,) = [block for block in python_of(page) if "FastAPI()" in block]
    (tmp_path / "gatewaykit.toml").write_text("[log]\naccess = false\n")
    monkeypatch.chdir(tmp_path)
    words: dict[str, Any] = {}
    exec(compile(code, page, "exec"), words)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(words["app"]), base_url="http://app") as client:
        assert (await client.get("/llm/livez")).json() == {"status": "ok"}
        assert (await client.get("/llm/v1/models")).status_code == 401
        assert (await client.get("/docs")).status_code == 200


async def test_mount_of_the_mounting_page_serves() -> None:
    """Starlette's `Mount` with the gateway's lifespan, as the page shows it."""
    (code,) = [block for block in python_of("docs/mounting.md") if "Mount(" in block]
    provider = FakeProvider(TextDelta("hi"), Finished())
    gateway = make_gateway(plugin_of(providers=[provider]))
    assert isinstance(gateway, Gateway)
    words: dict[str, Any] = {"gateway": gateway}
    exec(compile(code, "docs/mounting.md", "exec"), words)
    async with gateway_client(words["app"]) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        assert (await client.post("/llm/v1/chat/completions", json=body)).status_code == 200
