"""The page on keys does what it says: configurations are valid, commands and requests work as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gatewaykit import Gateway
from gatewaykit.testing import running

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/keys-and-limits.md", "docs/ru/keys-and-limits.md"]
WORDS = {
    "OPERATOR_KEY": "operator-0123456789abcdef",
    "CI_KEY": "ci-0123456789abcdefghijk",
    "KEYS_PEPPER": "0" * 64,
    "NEW_PEPPER": "1" * 64,
}


def keys_part(page: str) -> str:
    """The page up to the next chapter."""
    return "##".join(re.split(r"^##(?!#)", (ROOT / page).read_text(), flags=re.MULTILINE)[:2])


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language in the part on keys."""
    return re.findall(rf"```{language}\n(.*?)```", keys_part(page), re.DOTALL)


def key_of(gateway: Gateway, name: str) -> str:
    """The id of a new key."""
    from gatewaykit_oauth.keys import store
    from gatewaykit_oauth.keys.model import Actor, KeySpec
    from gatewaykit_oauth.keys.secrets import Secrets

    assert gateway.storage is not None
    pepper = Path(str(gateway.storage.address).removeprefix("SQLite ") + ".pepper").read_text().strip()
    with gateway.storage.transaction() as session:
        return store.create(session, Actor("cli"), KeySpec(name=name), secrets=Secrets(pepper)).key.id


def test_both_languages_show_the_same_code() -> None:
    """Block by block."""
    english, russian = (re.findall(r"```\w+\n.*?```", keys_part(page), re.DOTALL) for page in PAGES)
    assert len(english) >= 8
    assert english == russian


@pytest.mark.parametrize("block", blocks(PAGES[0], "toml"))
def test_configurations_of_the_page_are_valid(block: str, tmp_path: Path) -> None:
    """Each alone, with the variables that it speaks of."""
    given: dict[str, Any] = tomllib.loads(block)
    (tmp_path / "gatewaykit.toml").write_text(block)
    database = {"GATEWAYKIT_DATABASE__URL": f"sqlite:///{tmp_path}/x.db"} if "keys" in given else {}
    Gateway(tmp_path / "gatewaykit.toml", environ={**WORDS, **database})


def test_commands_and_requests_of_the_page_work(tmp_path: Path) -> None:
    """In their order, beside a gateway that serves with the first configuration of the page."""
    config = blocks(PAGES[0], "toml")[0].replace("sqlite:///", f"sqlite:///{tmp_path}/") + "[log]\naccess = false\n"
    (tmp_path / "gatewaykit.toml").write_text(config)
    gateway = Gateway(tmp_path / "gatewaykit.toml", environ=WORDS)
    with running(gateway) as address:
        script = "\n".join(blocks(PAGES[0], "bash"))
        script = script.replace("http://127.0.0.1:8080", address).replace("curl -s ", "curl --fail-with-body -sS ")
        environ = {
            **WORDS,
            "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "ID": key_of(gateway, "one"),
            "OTHER": key_of(gateway, "other"),
        }
        done = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, env=environ, capture_output=True, encoding="utf-8", timeout=120
        )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == ""
    assert len(re.findall(r"gk_live_\w{42}", done.stdout)) == 8  # three commands print one twice, two requests once
