"""The chapter on limits says what is: its configuration is valid, its headers are those of an answer."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import Gateway
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.testing import KEY, FakeProvider, gateway_client, make_gateway, plugin_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/keys-and-limits.md", "docs/ru/keys-and-limits.md"]
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language in the chapter on limits."""
    chapter = re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE)[2]
    return re.findall(rf"```{language}\n(.*?)```", chapter, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_configuration_is_valid(page: str) -> None:
    """Every table of it is understood, and means a limit."""
    (block,) = blocks(page, "toml")
    given: dict[str, Any] = tomllib.loads(block)
    settings = Gateway({**given, "static_keys": {"keys": {"ci": KEY}}}, environ={}).settings.get(LimitsSettings)
    assert settings.each_key.rpm == 600
    assert list(settings.models) == ["GigaChat-2-Max*"]
    assert settings.all.concurrency == 500


@pytest.mark.parametrize("page", PAGES)
async def test_the_headers_are_those_of_an_answer(page: str) -> None:
    """Names, policy and order; the figures depend on the moment."""
    shown = dict(line.split(": ", 1) for line in blocks(page, "text")[0].splitlines())
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]), limits={"each_key": {"rpm": 600, "tpm": 200_000}})
    async with gateway_client(gateway) as client:
        answer = await client.post("/v1/chat/completions", json=REQUEST)
    assert shown.keys() <= answer.headers.keys()
    assert answer.headers["ratelimit-policy"] == shown["ratelimit-policy"]
    assert answer.headers["x-ratelimit-remaining-requests"] == shown["x-ratelimit-remaining-requests"]
    assert re.sub(r"\d+", "N", answer.headers["ratelimit"]) == re.sub(r"\d+", "N", shown["ratelimit"])
