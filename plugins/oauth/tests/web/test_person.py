"""A person's way in a real browser: set up, sign in, a key, a call, a program that is let in; and the end of it all.

Pictures are kept in the folder that ``TESTS_ARTEFACTS`` names, where it is set.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gatewaykit import Gateway
from gatewaykit.testing import running
from gatewaykit.testing.gateways import bound
from gatewaykit_oauth.server import clients
from gatewaykit_oauth.server.model import ClientSpec
from gatewaykit_oauth.server.settings import OAuthSettings
from gatewaykit_oauth.web.languages import language

from ..oauth_world import VERIFIER, challenge_of
from .browser import PASSWORD
from .chromium import keep, seen, watched
from .seeding import CLI, SECRETS, seeded_gateway


@dataclass
class Walk:
    """Somebody on the way."""

    gateway: Gateway
    context: Any
    addresses: tuple[str, ...]
    say: Callable[[str], str]
    code: str
    page: Any = None
    complaints: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the gateway is."""
        return self.addresses[0]

    def begin(self) -> None:
        """In a new page."""
        self.page, _ = watched(self.context, *self.addresses, complaints=self.complaints)

    def press(self, role: Any, name: str) -> None:
        """The link or button that is called so."""
        self.page.get_by_role(role, name=self.say(name)).first.click()

    def fill(self, label: str, text: str) -> None:
        """The field that is called so."""
        self.page.get_by_label(self.say(label), exact=True).fill(text)

    def status(self, token: str) -> int:
        """How the gateway answers a call with this key or token."""
        headers = {"authorization": f"Bearer {token}"}
        return httpx.get(f"{self.address}/v1/models", headers=headers, trust_env=False).status_code


@contextmanager
def program() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A program on this machine that waits for browsers to come back: its address, and what they brought."""
    brought: list[dict[str, str]] = []

    class Callback(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            brought.append({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b'<!DOCTYPE html><title>Back</title><link rel="icon" href="data:,"><p>Go on there.')

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Callback)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/cb", brought
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("code", ["en", "ru"])
def test_a_person_s_way(chromium: Any, tmp_path: Path, code: str) -> None:
    """From the first link to a key that works, to a program that is let in and shut out again, to no key any more."""
    listener = bound()
    host, port = listener.getsockname()
    gateway = seeded_gateway(tmp_path, oauth={"issuer": f"http://{host}:{port}"})
    with running(gateway, listener) as address, program() as (callback, brought):
        context = chromium.new_context(locale=code, permissions=["clipboard-read", "clipboard-write"])
        walk = Walk(gateway, context, (address, callback), language(code).gettext, code)
        walk.begin()
        set_up(walk)
        secret = make_a_key(walk)
        token = let_a_program_in(walk, callback, brought)
        shut_it_out(walk, token)
        revoke(walk, secret)
        context.close()
    assert walk.complaints == []


def set_up(walk: Walk) -> None:
    """The link of the first start leads to a password; with it one comes in again."""
    page, address = walk.page, walk.address
    page.goto(dict(walk.gateway.greetings(address))["set up"])
    walk.fill("Name", "first")
    walk.fill("Password", PASSWORD)
    walk.fill("The password again", PASSWORD)
    keep(page, f"way-1-setup-{walk.code}")
    walk.press("button", "Save and sign in")
    page.wait_for_url(f"{address}/admin/")
    walk.press("button", "Sign out")
    page.wait_for_url("**/sign-in**")
    page.fill("#name", "first")
    page.fill("#password", PASSWORD)
    page.locator("main button[type=submit]").click()
    page.wait_for_url(f"{address}/admin/")


def make_a_key(walk: Walk) -> str:
    """The button copies it, the line of curl calls a model with it, and nothing shows it again."""
    from playwright.sync_api import Error

    page = walk.page
    walk.press("link", "New key")
    walk.fill("Name", "Reader")
    walk.press("button", "Make the key")
    secret: str = page.locator("#secret").inner_text()
    page.locator(".secret").get_by_role("button").click()
    page.locator("#announcement", has_text=walk.say("Copied")).wait_for(state="attached")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    keep(page, f"way-2-key-{walk.code}")
    curl = page.locator("#snippet-1").inner_text().replace("curl ", "curl -s ", 1)
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=120)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"] == "Hello!"
    walk.press("link", "I have saved it")
    assert secret not in page.content()
    with suppress(Error):  # the browser has not kept the answer, and asks whether to send the form again
        page.go_back()
        assert secret not in page.content()
    page.close()
    walk.begin()
    return secret


def let_a_program_in(walk: Walk, callback: str, brought: list[dict[str, str]]) -> str:
    """It sends the browser here, somebody agrees, and the browser goes back to it with a code that is worth a token.

    Chromium holds the redirect after a form to ``form-action``: without the program's origin there it would not go.
    """
    page, storage = walk.page, walk.gateway.storage
    assert storage is not None
    with storage.transaction() as session:
        spec = ClientSpec(name="Notebook", redirect_uris=("http://127.0.0.1/cb",))
        settings = walk.gateway.settings.get(OAuthSettings)
        client = clients.create(session, CLI, spec, secrets=SECRETS, settings=settings).client.id
    asked = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": callback,
        "scope": "inference",
        "state": "as-it-was",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    page.goto(f"{walk.address}/oauth/authorize?{httpx.QueryParams(asked)}")
    page.get_by_role("heading", level=1).wait_for()
    assert seen(page, f"way-3-consent-{walk.code}") == []
    walk.press("button", "Allow")
    page.wait_for_url(f"{callback}?**")
    keep(page, f"way-4-back-{walk.code}")
    (answer,) = brought
    assert (answer["state"], answer["iss"]) == ("as-it-was", walk.address)
    form = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": callback}
    form |= {"client_id": client, "code_verifier": VERIFIER}
    token: str = httpx.post(f"{walk.address}/oauth/token", data=form, trust_env=False).json()["access_token"]
    assert walk.status(token) == 200
    return token


def shut_it_out(walk: Walk, token: str) -> None:
    """What was allowed is taken back on the page of programs."""
    page = walk.page
    page.goto(f"{walk.address}/admin/grants")
    keep(page, f"way-5-programs-{walk.code}")
    page.locator("main td form button").click()
    page.get_by_text(walk.say("The access is withdrawn, and all its tokens are refused.")).wait_for()
    assert walk.status(token) == 401


def revoke(walk: Walk, secret: str) -> None:
    """The key's name is typed, and it works no longer."""
    page = walk.page
    assert walk.status(secret) == 200
    page.goto(f"{walk.address}/admin/keys?text=Reader")
    walk.press("link", "Reader")
    walk.press("link", "Revoke")
    page.get_by_label(walk.say("Type the name of the key to confirm")).fill("Reader")
    walk.press("button", "Revoke for good")
    page.get_by_text(walk.say("The key is revoked.")).wait_for()
    keep(page, f"way-6-revoked-{walk.code}")
    assert walk.status(secret) == 401
