"""The server with clients that no one here wrote: npm's ``oauth4webapi`` and ``openid-client``, in Node."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewaykit.testing import machine
from gatewaykit_oauth.server.model import DEVICE_CODE

from .oauth_served import Served, served
from .oauth_world import EVERYTHING
from .web.browser import Browser

FOLDER = Path(__file__).parent / "node"
HOW = "install Node 20 or newer (Debian: nodejs, npm), then: npm ci --prefix plugins/oauth/tests/node"


def node() -> str:
    """The program. Skips where it is missing, unless ``TESTS_REQUIRE`` names it."""
    if not (FOLDER / "node_modules/openid-client").is_dir():
        machine.missing("node", HOW)
    return machine.program("node", HOW)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One gateway for the whole module."""
    node()
    folder = tmp_path_factory.mktemp("node")
    with served(f"sqlite:///{folder}/gatewaykit.db", oauth={"registration": True}) as found:
        yield found


def talk(there: Served, script: str, **told: Any) -> None:
    """Run the script, and do in a browser what it asks for."""
    arguments = [node(), str(FOLDER / script), json.dumps({"issuer": there.address, **told})]
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked: dict[str, Any] = {}
    patience = threading.Timer(60, process.kill)
    patience.start()
    try:
        for line in process.stdout:
            asked = json.loads(line)
            if "done" in asked:
                break
            if "open" in asked:
                process.stdin.write(json.dumps(there.address + there.agree(asked["open"]).path) + "\n")
            elif "connect" in asked:
                with Browser(there.address) as browser:
                    browser.sign_in("ann")
                    browser.send(browser.get(asked["connect"]), "/oauth/device/confirm", decision="allow")
                process.stdin.write("true\n")
            process.stdin.flush()
        _, errors = process.communicate()
    finally:
        patience.cancel()
        process.kill()
        process.wait()
    assert asked.get("done"), errors


def test_oauth4webapi(there: Served) -> None:
    """Discovery, code with PKCE, ID token, userinfo, RFC 9068, refresh, revocation, introspection, client credentials,
    DPoP, device and registration are what a strict client expects."""
    back = f"{there.address}/back"
    public = there.client("public", redirect_uris=[back])
    job = there.client("job", confidential=True, grants=["client_credentials"])
    device = there.client("device", grants=[DEVICE_CODE])
    ids = {"public": public["id"], "job": job["id"], "secret": job["secret"], "device": device["id"]}
    talk(there, "oauth4webapi.mjs", back=back, **ids)


def test_openid_client(there: Served) -> None:
    """A web application lets people log in, refreshes, sees replays punished and tokens revoked."""
    back = f"{there.address}/back"
    web = there.client("web", confidential=True, redirect_uris=[back], grants=list(EVERYTHING))
    talk(there, "openid-client.mjs", back=back, job=web["id"], secret=web["secret"])
