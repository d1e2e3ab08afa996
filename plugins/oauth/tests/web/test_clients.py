"""The pages of programs: an admin registers them and takes access back; a member does so for their own grants only."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import jwt
import pytest

from gatewaykit_oauth import accounts
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys.model import Account
from gatewaykit_oauth.server.model import DEVICE_CODE
from gatewaykit_oauth.signin.credentials import set_password
from gatewaykit_oauth.signin.passwords import hashed

from .browser import PASSWORD, Browser, Page
from .conftest import Place
from .seeding import CLI
from .test_russian import english

Browse = Callable[..., Browser]
SECRET = re.compile(r"gkc_\w+")
ONE = "/admin/clients/one"
CREDENTIALS = "client_credentials"


def made(browser: Browser, **fields: object) -> Page:
    """What follows the form for a new program."""
    return browser.send(browser.get("/admin/clients/new"), "/admin/clients/new", **fields)


def id_on(page: Page) -> str:
    """The id of the program that a page is about."""
    found = re.search(r"client_\w{20}", page.text)
    assert found is not None, page.words
    return found[0]


def token(address: str, client: str, secret: str) -> httpx.Response:
    """The answer to a program that asks for a token of its own."""
    form = {"grant_type": CREDENTIALS, "client_id": client, "client_secret": secret}
    return httpx.post(f"{address}/oauth/token", data=form, trust_env=False)


def accepts(address: str, access_token: str) -> bool:
    """Whether the gateway accepts a token."""
    headers = {"authorization": f"Bearer {access_token}"}
    return httpx.get(f"{address}/v1/models", headers=headers, trust_env=False).status_code == 200


def test_the_life_of_a_program(browse: Browse, place: Place) -> None:
    """It is registered with a secret that is shown once, gets another, is changed, and loses all its access."""
    browser, address = browse("anna"), place.address
    page = made(browser, name="Robot", kind="confidential", grants=CREDENTIALS, scopes="inference", owner="boris")
    client, secret = id_on(page), SECRET.search(page.text)
    assert secret is not None
    assert page.response.headers["cache-control"] == "no-store"
    path = f"{ONE}?id={client}"
    later = [browser.get(one) for one in (path, "/admin/clients", f"/admin/audit?object={client}")]
    assert not any(secret[0] in one.text for one in later)
    assert all("Robot" in one.words for one in later)
    first = token(address, client, secret[0]).json()["access_token"]
    assert accepts(address, first)

    renewed = SECRET.search(browser.send(browser.get(path), f"{ONE}/secret").text)
    assert renewed is not None
    assert [token(address, client, one[0]).status_code for one in (secret, renewed)] == [401, 200]
    page = browser.send(browser.get(f"{ONE}/edit?id={client}"), f"{ONE}/edit", name="Machine", access_seconds="86400")
    assert page.path == f"{path}&done=client-changed"
    assert "Machine" in page.words
    assert token(address, client, renewed[0]).json()["expires_in"] == 86_400

    browser.send(browser.get(path), f"{ONE}/withdraw")
    assert not accepts(address, first)
    second = token(address, client, renewed[0]).json()["access_token"]
    assert accepts(address, second)
    browser.send(browser.get(path), f"{ONE}/disable")
    assert not accepts(address, second)
    assert token(address, client, renewed[0]).status_code == 401
    browser.send(browser.get(path), f"{ONE}/enable")
    assert accepts(address, second)


def test_a_form_that_is_sent_twice_registers_one_program(browse: Browse) -> None:
    """Its secret is on the first answer; the second leads to the program."""
    browser = browse("anna")
    form = browser.get("/admin/clients/new")
    first, second = (
        browser.send(
            form, "/admin/clients/new", name="Twice", kind="confidential", redirect_uris="https://twice.example/"
        )
        for _ in range(2)
    )
    assert second.path == f"{ONE}?id={id_on(first)}&done=client-made"
    assert browser.get("/admin/clients").words.count("Twice") == 1


def test_an_owner_among_very_many_stays(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a program keeps its owner, also where there are more accounts than the form offers."""
    browser = browse("anna")
    client = id_on(
        made(browser, name="Robot", kind="confidential", grants=CREDENTIALS, scopes="inference", owner="boris")
    )
    monkeypatch.setattr(accounts, "_TO_CHOOSE_FROM", 1)
    browser.send(browser.get(f"{ONE}/edit?id={client}"), f"{ONE}/edit", name="Machine")
    page = browser.get(f"{ONE}?id={client}")
    assert "Machine" in page.words
    assert "boris" in page.words


def test_a_public_program_has_no_secret(browse: Browse) -> None:
    """It has addresses instead, and nobody is offered a secret for it."""
    browser = browse("anna")
    page = made(browser, name="Desktop", redirect_uris="http://127.0.0.1/cb\r\ncom.example.app:/cb", bound="yes")
    assert page.path.startswith(f"{ONE}?id=client_")
    assert "com.example.app:/cb" in page.words
    assert not any("/secret" in form.action for form in page.forms)
    form = browser.get(f"{ONE}/edit?id={id_on(page)}").form(f"{ONE}/edit")
    assert ("bound", "yes") in form.fields
    assert ("grants", "refresh_token") in form.fields


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "x" * 101, "не длиннее 100 печатных символов"),
        ("redirect_uris", "http://evil.example/cb", "не больше 10 адресов возврата"),
        ("redirect_uris", "", "нужен адрес возврата"),
        ("grants", None, "authorization_code, refresh_token"),
        ("grants", CREDENTIALS, "должен быть конфиденциальным"),
        ("grants", "refresh_token", "refresh_token"),
        ("scopes", None, "inference, usage, keys, admin"),
        ("access_seconds", "7", "от 60 до 31 536 000 секунд"),
        ("access_seconds", "a year", "от 60 до 31 536 000 секунд"),
        ("access_seconds", "-1", "от 60 до 31 536 000 секунд"),
        ("access_seconds", "9" * 5000, "от 60 до 31 536 000 секунд"),
        ("owner", "nobody-of-this-name", "учётной записи"),
    ],
)
def test_a_fault_is_told_with_its_figures(browse: Browse, field: str, value: str | None, said: str) -> None:
    """In Russian, with the form as it was filled in, and nothing is made."""
    browser = browse("anna", "ru")
    fields = {"name": "Faulty", "redirect_uris": "https://faulty.example/cb", field: value}
    page = made(browser, **fields)
    assert page.status == 400
    assert said in page.words
    assert all(said in text for text in english(page))
    assert "Faulty" not in browser.get("/admin/clients").words
    assert field == "name" or ("name", "Faulty") in page.form("/admin/clients/new").fields


def test_programs_are_for_admins(browse: Browse, place: Place) -> None:
    """For a member neither the list, nor a program, nor any change of it exists; unknown ids are nothing to anybody."""
    browser = browse("boris")
    csrf = dict(browser.get("/admin/grants").forms[0].fields)["csrf"]
    query = f"?id={place.client}"
    for path in ("/admin/clients", "/admin/clients/new", f"{ONE}{query}", f"{ONE}/edit{query}"):
        assert browser.get(path).status == 404, path
    for change in ("edit", "secret", "disable", "enable", "withdraw"):
        assert browser.post(f"{ONE}/{change}{query}", [("csrf", csrf)]).status == 404, change
    admin = browse("anna")
    assert [admin.get(f"{ONE}{one}").status for one in ("?id=client_nothing", "?id=%00", "")] == [404, 400, 400]


def test_one_token_is_revoked_on_the_page_of_its_grant(browse: Browse, place: Place) -> None:
    """That token is refused and the other one is not, until the grant is withdrawn; strangers see neither."""
    address, boris = place.address, browse("boris")
    client = id_on(made(browse("anna"), name="Pocket", grants=[DEVICE_CODE, "refresh_token"], scopes="inference"))
    asked = {"client_id": client}
    codes = httpx.post(f"{address}/oauth/device", data=asked, trust_env=False).json()
    page = boris.get(codes["verification_uri_complete"])
    boris.send(page, "/oauth/device/confirm", decision="allow", seconds="3600")
    form = {**asked, "grant_type": DEVICE_CODE, "device_code": codes["device_code"]}
    first = httpx.post(f"{address}/oauth/token", data=form, trust_env=False).json()
    form = {**asked, "grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = httpx.post(f"{address}/oauth/token", data=form, trust_env=False).json()
    tokens = [one["access_token"] for one in (first, second)]
    assert [accepts(address, one) for one in tokens] == [True, True]

    (link,) = {one for one in boris.get("/admin/grants").links if "/admin/grants/grant_" in one} - {
        f"/admin/grants/{place.grant}"
    }
    name = jwt.decode(tokens[0], options={"verify_signature": False})["jti"]
    page = boris.send(boris.get(link), f"/admin/tokens/{re.escape(name)}/revoke$")
    assert page.path == f"{link}?done=token-revoked"
    assert [accepts(address, one) for one in tokens] == [False, True]
    page = boris.send(page, "/end$")
    assert page.path == "/admin/grants?done=grant-ended"
    assert [accepts(address, one) for one in tokens] == [False, False]
    with place.gateway.storage.transaction() as session:  # type: ignore[union-attr]
        put_account(session, CLI, Account(id="vera"))
        set_password(session, CLI, "vera", hashed(PASSWORD), datetime.now(UTC))
    vera = browse("vera")
    assert vera.get(link).status == 404
    csrf = dict(vera.get("/admin/grants").forms[0].fields)["csrf"]
    jti = jwt.decode(tokens[1], options={"verify_signature": False})["jti"]
    assert [vera.post(one, [("csrf", csrf)]).status for one in (f"{link}/end", f"/admin/tokens/{jti}/revoke")] == [
        404
    ] * 2
