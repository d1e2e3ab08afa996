"""The page on the pages: its configurations are valid, and both languages show the same code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewaykit import Gateway

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/admin.md", "docs/ru/admin.md"]
SECRET = "GATEWAYKIT_OAUTH__IDENTITY_PROVIDERS__STAFF__CLIENT_SECRET"


def blocks(page: str, language: str = r"\w+") -> list[str]:
    """The code blocks of one language, or of all."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_both_languages_show_the_same_code() -> None:
    """Block by block."""
    english, russian = map(blocks, PAGES)
    assert len(english) >= 3
    assert english == russian


@pytest.mark.parametrize("block", blocks(PAGES[0], "toml"))
def test_configurations_of_the_page_are_valid(block: str, tmp_path: Path) -> None:
    """Each alone, with a database."""
    (tmp_path / "gatewaykit.toml").write_text(block)
    Gateway(tmp_path / "gatewaykit.toml", environ={"GATEWAYKIT_DATABASE__URL": f"sqlite:///{tmp_path}/x.db"})


def test_the_secret_comes_as_the_page_says(tmp_path: Path) -> None:
    """By the environment, or from a file that it names."""
    from gatewaykit_oauth.server.settings import OAuthSettings

    (block,) = [block for block in blocks(PAGES[0], "toml") if "identity_providers" in block]
    (tmp_path / "gatewaykit.toml").write_text(block)
    (tmp_path / "secret").write_text("the secret\n")
    assert SECRET in (ROOT / PAGES[0]).read_text()
    for given in ({SECRET: "the secret"}, {f"{SECRET}_FILE": str(tmp_path / "secret")}):
        environ = {"GATEWAYKIT_DATABASE__URL": f"sqlite:///{tmp_path}/x.db", **given}
        gateway = Gateway(tmp_path / "gatewaykit.toml", environ=environ)
        found = gateway.settings.get(OAuthSettings).identity_providers["staff"].client_secret
        assert found is not None
        assert found.get_secret_value() == "the secret"
