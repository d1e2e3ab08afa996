"""The device flow (RFC 8628): from the two codes to the tokens, and how it goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from gatewaykit_oauth import plugin
from gatewaykit_oauth.server.documents import described_client
from gatewaykit_oauth.server.model import DEVICE_CODE, Client
from gatewaykit_oauth.server.tables import DeviceRow

from .conftest import storage_at
from .oauth_served import Served, served
from .test_tokens import refused
from .web.browser import PASSWORD, Browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the whole module."""
    return f"sqlite:///{tmp_path_factory.mktemp('devices')}/gatewaykit.db"


@pytest.fixture(scope="module")
def there(url: str) -> Iterator[Served]:
    """One gateway for the whole module."""
    with served(url, oauth={"client_documents": True}) as found:
        yield found


@pytest.fixture(scope="module")
def app(there: Served) -> dict[str, Any]:
    """A program without a browser."""
    return there.client("tool", grants=[DEVICE_CODE, "refresh_token"])


def begin(there: Served, app: dict[str, Any], **form: str) -> dict[str, Any]:
    """The two codes."""
    answer = httpx.post(f"{there.address}/oauth/device", data={"client_id": app["id"], **form}, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ask(there: Served, app: dict[str, Any], device_code: str) -> httpx.Response:
    """Whether there are tokens yet."""
    form = {"grant_type": DEVICE_CODE, "device_code": device_code, "client_id": app["id"]}
    return httpx.post(f"{there.address}/oauth/token", data=form, trust_env=False)


def decide(there: Served, address: str, decision: str) -> str:
    """Open the address, sign in, and say yes or no; the words of the last page."""
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        page = browser.get(address)
        assert "tool" in page.words
        return browser.send(page, "/oauth/device/confirm", decision=decision).words


def test_a_device_is_connected(there: Served, app: dict[str, Any], url: str) -> None:
    """Until somebody agrees the answer is ``authorization_pending``, and ``slow_down`` for those who ask too often;
    then there are tokens, once."""
    found = begin(there, app, scope="inference")
    assert found["verification_uri"] == f"{there.address}/oauth/device"
    assert found["user_code"] in found["verification_uri_complete"]
    assert found["interval"] == 5
    refused(ask(there, app, found["device_code"]), "authorization_pending")
    with storage_at(url).opened() as storage, storage.transaction() as session:
        session.execute(update(DeviceRow).values(interval=600))  # the next question is early, however slow the machine
    refused(ask(there, app, found["device_code"]), "slow_down")
    with storage_at(url).opened() as storage, storage.transaction(write=False) as session:
        assert session.scalars(select(DeviceRow.interval).where(DeviceRow.asked.is_not(None))).all() == [605]
    assert "connected" in decide(there, found["verification_uri_complete"], "allow")
    tokens = ask(there, app, found["device_code"])
    assert tokens.status_code == 200, tokens.text
    bearer = {"authorization": f"Bearer {tokens.json()['access_token']}"}
    assert httpx.get(f"{there.address}/v1/models", headers=bearer, trust_env=False).status_code == 200
    refused(ask(there, app, found["device_code"]), "invalid_grant")


def test_the_code_is_typed(there: Served, app: dict[str, Any]) -> None:
    """In small letters and without the dash it is the same code; opening the page alone agrees to nothing; a no is told
    to the device."""
    found = begin(there, app)
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        typed = found["user_code"].lower().replace("-", " ")
        page = browser.send(browser.get("/oauth/device"), "/oauth/device", user_code=typed)
        assert "Go on only if you have just started this yourself" in page.words
        refused(ask(there, app, found["device_code"]), "authorization_pending")
        browser.send(page, "/oauth/device/confirm", decision="deny")
        refused(ask(there, app, found["device_code"]), "access_denied")
        assert browser.send(page, "/oauth/device/confirm", decision="allow").status == 404


def test_a_device_that_nobody_registered(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that describes itself is connected as any other, and can be switched off afterwards, however long its
    address is."""
    named = f"https://tool.example/{'about' * 90}.json"
    document = {"client_id": named, "redirect_uris": ["http://localhost/cb"], "grant_types": [DEVICE_CODE]}
    client = described_client(named, json.dumps(document).encode())

    async def known(client_id: str) -> Client | None:
        return client if client_id == named else None

    monkeypatch.setattr(plugin._authorities[there.gateway].documents, "client", known)
    begun = [begin(there, {"id": named}, scope="inference") for _ in range(2)]
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        pages = [browser.get(one["verification_uri_complete"]) for one in begun]
        assert "tool.example" in pages[0].words
        browser.send(pages[0], "/oauth/device/confirm", decision="allow")
        assert ask(there, {"id": named}, begun[0]["device_code"]).json()["scope"] == "inference"
        assert there.admin.patch(f"/api/admin/clients/{named}", json={"enabled": False}).status_code == 200
        assert browser.send(pages[1], "/oauth/device/confirm", decision="allow").status == 400
    refused(ask(there, {"id": named}, begun[1]["device_code"]), "authorization_pending")


def test_guessing_codes_is_slow(there: Served, app: dict[str, Any], url: str) -> None:
    """After ten codes somebody has to wait."""
    (state,) = plugin._authorities[there.gateway]._here.values()
    state.pace._counts.clear()
    with Browser(there.address) as browser:
        browser.sign_in("ann")
        statuses = [browser.get(f"/oauth/device?user_code=BBBB-BBB{letter}").status for letter in "BCDFGHJKLMN"]
    state.pace._counts.clear()
    assert statuses == [404] * 10 + [429]


def test_what_is_not_a_good_device_code(there: Served, app: dict[str, Any], url: str) -> None:
    """Unknown codes, those of another client and expired ones give nothing."""
    other, found = there.client("other", grants=[DEVICE_CODE]), begin(there, app)
    for code in ("x", "gkd_" + "x" * 42, found["device_code"] + "x"):
        refused(ask(there, app, code), "invalid_grant")
    refused(ask(there, other, found["device_code"]), "invalid_grant")
    with storage_at(url).opened() as storage, storage.transaction() as session:
        session.execute(update(DeviceRow).values(expires=datetime.now(UTC) - timedelta(seconds=1)))
    refused(ask(there, app, found["device_code"]), "expired_token")
    web = there.client("web", redirect_uris=["https://client.test/cb"])
    answer = httpx.post(f"{there.address}/oauth/device", data={"client_id": web["id"]}, trust_env=False)
    refused(answer, "unauthorized_client")


def test_an_account_with_a_limit_of_its_own(there: Served, app: dict[str, Any]) -> None:
    """The page offers no longer life than the account may have, whatever the client may; what is sent all the same is
    cut to it. An admin sets it on the account's page, or by command."""
    patched = there.admin.patch(f"/api/admin/clients/{app['id']}", json={"access_seconds": 31_536_000})
    assert patched.status_code == 200
    assert there.admin.patch("/api/admin/accounts/ann", json={"longest_access_seconds": 7200}).status_code == 200
    begun = begin(there, app)
    with Browser(there.address) as browser:
        page = browser.get(begun["verification_uri_complete"])
        page = browser.send(page, "/admin/sign-in", name="ann", password=PASSWORD)
        assert re.findall(r'<option value="(\d+)"', page.text) == ["3600", "7200"]
        browser.send(page, "/oauth/device/confirm", decision="allow", seconds="31536000")
    answer = ask(there, app, begun["device_code"]).json()
    assert answer["expires_in"] == 7200
    assert there.admin.patch("/api/admin/accounts/ann", json={"longest_access_seconds": None}).status_code == 200
