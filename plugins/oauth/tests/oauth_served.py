"""A gateway with an authorization server on a real socket, and somebody with a browser who has an account there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from gatewaykit import Gateway
from gatewaykit.testing.gateways import bound, running
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.signin.credentials import set_password
from gatewaykit_oauth.signin.passwords import hashed

from .conftest import OPERATOR, storage_at
from .oauth_world import ADMIN_KEY, oauth_gateway
from .web.browser import PASSWORD, Browser, Page


@dataclass
class Served:
    """The gateway, its address, which is its issuer, and a way to manage it."""

    gateway: Gateway
    address: str
    admin: httpx.Client

    def client(self, name: str = "app", **spec: Any) -> dict[str, Any]:
        """A client, as an admin makes it by the API."""
        answer = self.admin.post("/api/admin/clients", json={"name": name, **spec})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def agree(self, url: str, **values: Any) -> Page:
        """Open an authorization request in a browser, sign in, and agree to it; the page where the browser ends."""
        with Browser(self.address) as browser:
            page = browser.get(url)
            if "/admin/sign-in" in page.path:
                page = browser.send(page, "/admin/sign-in", name="ann", password=PASSWORD)
            if not any("/oauth/consent" in form.action for form in page.forms):
                return page
            return browser.send(page, "/oauth/consent", **{"decision": "allow", **values})


@contextmanager
def served(url: str, *, oauth: dict[str, Any] | None = None, **config: Any) -> Iterator[Served]:
    """A gateway at work; ``ann`` can sign in."""
    listener = bound()
    host, port = listener.getsockname()
    address = f"http://{host}:{port}"
    gateway = oauth_gateway(url, oauth={"issuer": address, **(oauth or {})}, **config)
    with running(gateway, listener):
        _add_ann(url)
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=120) as admin:
            yield Served(gateway, address, admin)


def _add_ann(url: str) -> None:
    digest = hashed(PASSWORD)
    with storage_at(url).opened() as storage, storage.transaction() as session:
        put_account(session, OPERATOR, Account(id="ann", name="Ann"))
        session.flush()
        set_password(session, OPERATOR, "ann", digest, datetime.now(UTC))
