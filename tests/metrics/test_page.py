"""What the page on metrics and traces shows works as it stands, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.testing import FakeProvider, gateway_client, make_gateway, plugin_of

PAGES = ["docs/observability.md", "docs/ru/observability.md"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", PAGES)
async def test_provider_of_the_page_is_measured(page: str) -> None:
    """The provider with `readings` has its series in a scrape."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    words: dict[str, Any] = {"FakeProvider": FakeProvider}
    exec(compile(code.replace("(Provider)", "(FakeProvider)"), page, "exec"), words)
    provider = words["Acme"]()
    provider.name = "acme"
    async with gateway_client(make_gateway(plugin_of(providers=[provider]))) as client:
        text = (await client.get("/metrics", headers={"authorization": ""})).text
    assert 'acme_connections{acme_region="eu"} 3.0' in text


def test_both_languages_name_the_same_settings_metrics_and_variables() -> None:
    """Whatever is code in the prose of one page is code in the other."""
    table = re.compile(r"<!-- metrics.*?<!-- end -->", re.DOTALL)
    words = [set(re.findall(r"`([^`\n]+)`", table.sub("", (ROOT / page).read_text()))) for page in PAGES]
    assert words[0] ^ words[1] <= {"updown", "gatewaykit.", "make docs"}
