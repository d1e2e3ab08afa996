"""The page on authentication does what it says: configurations are valid, and the flow works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from gatewaykit import Gateway
from gatewaykit.testing.gateways import bound, running

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/authentication.md", "docs/ru/authentication.md"]
WORDS = {"OPERATOR_KEY": "operator-0123456789abcdef"}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_both_languages_show_the_same_code() -> None:
    """Block by block."""
    english, russian = (re.findall(r"```\w+\n.*?```", (ROOT / page).read_text(), re.DOTALL) for page in PAGES)
    assert len(english) >= 9
    assert english == russian


@pytest.mark.parametrize("block", blocks(PAGES[0], "toml"))
def test_configurations_of_the_page_are_valid(block: str, tmp_path: Path) -> None:
    """Each alone, with a database."""
    (tmp_path / "gatewaykit.toml").write_text(block)
    assert "oauth" in tomllib.loads(block)
    Gateway(tmp_path / "gatewaykit.toml", environ={**WORDS, "GATEWAYKIT_DATABASE__URL": f"sqlite:///{tmp_path}/x.db"})


def test_the_flow_of_the_page_works(tmp_path: Path) -> None:
    """All commands, in their order; where the page says that a browser is used, one is."""
    listener = bound()
    address = "http://{}:{}".format(*listener.getsockname())
    config = blocks(PAGES[0], "toml")[0].replace("sqlite:///", f"sqlite:///{tmp_path}/") + "[log]\naccess = false\n"
    (tmp_path / "gatewaykit.toml").write_text(config.replace("http://127.0.0.1:8080", address))
    gateway = Gateway(tmp_path / "gatewaykit.toml", environ=WORDS)
    before, after = [], []
    for block in blocks(PAGES[0], "bash"):
        text = block.replace("http://127.0.0.1:8080", address).replace("curl -s ", "curl --fail-with-body -sS ")
        (after if "$CODE" in block or after else before).append(text)
    with running(gateway, listener):
        first = run("\n".join(before) + '\necho "CLIENT=$CLIENT VERIFIER=$VERIFIER"\n', tmp_path)
        url = re.findall(rf"{address}/oauth/authorize\?\S+", first)[0]
        known = dict(word.split("=", 1) for word in first.splitlines()[-1].split())
        code = agreed(gateway, address, url)
        second = run("\n".join(after), tmp_path, {**known, "CODE": code})
    assert second.count('"access_token":"') == 3
    assert '"object":"list"' in second


def run(script: str, folder: Path, words: Mapping[str, str] | None = None) -> str:
    """What the script writes."""
    environ = {
        **WORDS,
        **(words or {}),
        "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
    }
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environ, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def agreed(gateway: Gateway, address: str, url: str) -> str:
    """The code, for somebody who signs in and agrees on the pages."""
    from gatewaykit_oauth.accounts import put_account
    from gatewaykit_oauth.keys.model import Account, Actor
    from gatewaykit_oauth.signin.credentials import set_password
    from gatewaykit_oauth.signin.passwords import hashed

    digest = hashed("correct horse battery")
    assert gateway.storage is not None
    with gateway.storage.transaction() as session:
        put_account(session, Actor("cli"), Account(id="ann"))
        session.flush()
        set_password(session, Actor("cli"), "ann", digest, datetime.now(UTC))
    headers = {"sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=address, headers=headers, trust_env=False, follow_redirects=True) as browser:
        page = browser.get(url)
        form = {**hidden(page.text), "name": "ann", "password": "correct horse battery"}
        page = browser.post(page.url, data=form)
        answer = browser.post("/oauth/consent", data={**hidden(page.text), "decision": "allow"}, follow_redirects=False)
    found = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert (found["state"], found["iss"]) == ("xyz", address)
    return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]


def hidden(text: str) -> dict[str, str]:
    """The hidden fields of a page's forms."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))
