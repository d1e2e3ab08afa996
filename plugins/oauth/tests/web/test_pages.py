"""Every page, for each role and in each language; and what can be done on them with plain forms, as without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from gatewaykit_oauth import accounts
from gatewaykit_oauth.web import usage
from gatewaykit_oauth.web.charts import Value, bars
from gatewaykit_oauth.web.languages import LANGUAGES

from .browser import Browser, Page
from .conftest import Place

Browse = Callable[..., Browser]
EVERYBODY = ("/admin/", "/admin/keys", "/admin/keys/new", "/admin/usage", "/admin/account", "/admin/account/factor")
ADMINS = (
    "/admin/live",
    "/admin/users",
    "/admin/users/new",
    "/admin/users/boris",
    "/admin/users/boris/edit",
    "/admin/audit",
    "/admin/providers",
    "/admin/clients",
    "/admin/clients/new",
)
SECRET = re.compile(r"gk_live_[0-9A-Za-z]{42}")


def models(address: str, secret: str) -> int:
    """The status with which the gateway answers this key."""
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{address}/v1/models", headers=headers, trust_env=False).status_code


def made(browser: Browser, **fields: object) -> tuple[str, str]:
    """A new key, made with the form: its id and its secret."""
    page = browser.send(browser.get("/admin/keys/new"), "/admin/keys/new", **fields)
    found = SECRET.search(page.text)
    assert found, page.words
    link = next(link for link in page.links if re.search(r"/admin/keys/key_\w+$", link))
    return link.rpartition("/")[2], found[0]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["anna", "boris"])
def test_every_page_of_a_role_in_a_language(browse: Browse, place: Place, name: str, language: str) -> None:
    """It is there, in that language, held by a strict policy, kept by no cache, and without script or style in it."""
    browser = browse(name, language)
    key = place.keys["Notebook"]
    own = [f"/admin/keys/{key}{page}" for page in ("", "/edit", "/rotate", "/revoke")]
    for path in (
        *EVERYBODY,
        *own,
        f"/admin/usage?key={key}&days=90&measure=tokens",
        "/admin/grants",
        f"/admin/grants/{place.grant}",
        *(ADMINS if name == "anna" else ()),
    ):
        page = browser.get(path)
        headers = page.response.headers
        assert page.status == 200, (path, page.words)
        assert f'<html lang="{language}"' in page.text
        assert (headers["content-language"], headers["cache-control"]) == (language, "no-store"), path
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page.text), path
        assert "http://" not in re.sub(rf"{place.address}|http://www.w3.org", "", page.text), path


def test_a_member_sees_what_is_their_own(browse: Browse, place: Place) -> None:
    """Pages for admins, other people's keys and other people's figures do not exist for a member."""
    browser = browse("boris")
    others = place.keys["Site search"]
    for path in (*ADMINS, f"/admin/keys/{others}", f"/admin/keys/{others}/edit", f"/admin/usage?key={others}"):
        assert browser.get(path).status == 404, path
    page = browser.get("/admin/keys?owner=search-service")
    assert "Notebook" in page.words
    assert "Site search" not in page.words
    assert "Site search" not in browser.get("/admin/usage?owner=search-service&key=").text
    own = browser.get("/admin/keys")
    token = dict(own.forms[0].fields)["csrf"]
    for change in ("disable", "cut", "revoke"):
        assert browser.post(f"/admin/keys/{others}/{change}", [("csrf", token), ("name", "Site search")]).status == 404
    for path in ("/admin/users/anna/disable", "/admin/users/new", "/admin/users/boris/edit"):
        assert browser.post(path, [("csrf", token), ("role", "admin"), ("id", "x")]).status == 404


def test_nobody_sees_a_page_without_signing_in(browse: Browse, place: Place) -> None:
    """Each leads to the sign-in page, and from there back to where one wanted to go, with its query."""
    browser = browse()
    for path in (*EVERYBODY, *ADMINS, "/admin/keys?status=active&sort=name", "/admin/no-such-page"):
        page = browser.get(path)
        assert page.path.startswith("/admin/sign-in?next="), path
    page = browser.send(
        browser.get("/admin/keys?status=active&sort=name"),
        "/admin/sign-in",
        name="anna",
        password="correct horse battery staple",
    )
    assert page.path == "/admin/keys?status=active&sort=name"


def test_the_life_of_a_key(browse: Browse, place: Place) -> None:
    """It is made, works, is changed, rotated, disabled, enabled and revoked, all by forms, and the gateway follows."""
    browser = browse("boris")
    key, secret = made(browser, name="Reader", models="GigaChat-2*", rpm="30", budget="12,5", lifetime="30")
    assert models(place.address, secret) == 200
    path = f"/admin/keys/{key}"
    shown = browser.get(path).words
    assert "30 requests/min" in shown
    assert "12.50" in shown
    page = browser.send(browser.get(f"{path}/edit"), "/edit", name="Renamed", rpm="", note="A note")
    assert page.path == f"{path}?done=changed"
    assert "Renamed" in page.words
    assert "30 requests/min" not in page.words
    rotated = browser.send(browser.get(f"{path}/rotate"), "/rotate", grace="1h")
    new = SECRET.search(rotated.text)
    assert new is not None
    assert [models(place.address, one) for one in (secret, new[0])] == [200, 200]
    browser.send(browser.get(path), "/cut")
    assert [models(place.address, one) for one in (secret, new[0])] == [401, 200]
    browser.send(browser.get(path), "/disable")
    assert models(place.address, new[0]) == 401
    browser.send(browser.get(path), "/enable")
    assert models(place.address, new[0]) == 200
    wrong = browser.send(browser.get(f"{path}/revoke"), "/revoke", name="Something else")
    assert (wrong.status, "not the name" in wrong.words) == (400, True)
    assert browser.send(browser.get(f"{path}/revoke"), "/revoke", name="Renamed").path == f"{path}?done=revoked"
    assert models(place.address, new[0]) == 401


def test_no_day_is_passed_over(browse: Browse) -> None:
    """A last day that was typed beside another choice is a fault, for a new key and for one that there is; the day that
    the form held already is none.
    """
    browser = browse("anna")
    fault = browser.send(browser.get("/admin/keys/new"), "/keys/new", name="Dated", expires="2399-03-01")
    assert (fault.status, "For this day to count" in fault.words) == (400, True)
    key, _ = made(browser, name="Dated", lifetime="date", expires="2399-03-01")
    edit = browser.get(f"/admin/keys/{key}/edit")
    assert browser.send(edit, "/edit", expires="2399-04-01").status == 400
    assert "2 Mar 2399" in browser.send(edit, "/edit", note="as it was").words
    assert "1 May 2399" in browser.send(edit, "/edit", lifetime="date", expires="2399-04-30").words


def test_a_name_is_typed_as_it_is_seen(browse: Browse) -> None:
    """A key with two spaces in its name, or marks apart from their letters, is revoked by what the page shows."""
    browser = browse("anna")
    key, _ = made(browser, name="Мои\u0306  key")
    page = browser.send(browser.get(f"/admin/keys/{key}/revoke"), "/revoke", name="Мой key")
    assert page.path == f"/admin/keys/{key}?done=revoked"


def test_an_owner_among_very_many_can_be_chosen(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more accounts than the form offers, that of the filter is, and that from whose page one comes."""
    monkeypatch.setattr(accounts, "_TO_CHOOSE_FROM", 1)
    browser = browse("anna")

    def owner(path: str) -> str:
        return dict(browser.get(path).form(r"/admin/keys(/new.*)?$").fields)["owner"]

    assert owner("/admin/keys?owner=boris") == "boris"
    (link,) = (one for one in browser.get("/admin/users/boris").links if "/admin/keys/new" in one)
    assert owner(link) == "boris"


def test_a_secret_is_on_one_page_and_never_again(browse: Browse, place: Place) -> None:
    """Not in the list, the key's page, the audit log or the search, nor when the form is sent a second time."""
    browser = browse("anna")
    form = browser.get("/admin/keys/new")
    first = browser.send(form, "/admin/keys/new", name="Twice")
    found = SECRET.search(first.text)
    assert found is not None
    assert first.response.headers["cache-control"] == "no-store"
    second = browser.send(form, "/admin/keys/new", name="Twice")
    assert second.status == 200
    assert "sent before" in second.words
    key = next(link for link in second.links if "/admin/keys/key_" in link)
    pages = [
        second,
        *(browser.get(path) for path in (key, "/admin/keys", "/admin/audit", "/admin/", "/admin/keys?text=Twice")),
    ]
    assert not any(found[0] in page.text for page in pages)
    assert browser.get("/admin/keys?text=Twice").words.count("Twice") == 1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "", "not valid"),
        ("rpm", "many", "whole number"),
        ("budget", "1e9", "amount"),
        ("expires", "2001-01-01", "future"),
        ("networks", "nowhere", "network"),
        ("scopes", None, "scopes"),
        ("models", "[a]", "'['"),
        ("owner", "stranger", "no such account"),
    ],
)
def test_a_fault_stands_at_its_field(browse: Browse, field: str, value: str | None, said: str) -> None:
    """The form comes back as it was filled in, with the fault and above it a way there, and nothing is made."""
    browser = browse("anna")
    values = {"name": "Faulty", "note": "kept", "lifetime": "date" if field == "expires" else "90", field: value}
    page = browser.send(browser.get("/admin/keys/new"), "/admin/keys/new", **values)
    assert page.status == 400
    assert said in page.words or field == "name"
    assert dict(page.form("/admin/keys/new").fields)["note"] == "\nkept" or "kept" in page.text
    assert field == "scopes" or re.search(rf'id="{field}"[^>]*aria-invalid="true"', page.text)
    assert f"#{field}" in page.links
    assert "Faulty" not in browser.get("/admin/keys").words


def test_a_member_cannot_make_a_key_that_may_more(browse: Browse) -> None:
    """Models and rights that the account has not are refused; another owner, which is not offered, is passed over."""
    browser = browse("boris")
    page = browser.get("/admin/keys/new")
    assert "Manage everything" not in page.words
    for more in ({"models": "*"}, {"scopes": ["inference", "admin"]}):
        refused = browser.send(page, "/admin/keys/new", name="Greedy", **{"models": "GigaChat-2*", **more})
        assert (refused.status, "may do" in refused.words) == (403, True)
    key, _ = made(browser, name="Modest", models="GigaChat-2*", owner="anna")
    assert "boris" in browser.get(f"/admin/keys/{key}").words


def test_the_list_is_searched_ordered_and_filtered(browse: Browse) -> None:
    """By name and last characters, by state and by owner, in the order that is asked for."""
    browser = browse("anna")

    def names(query: str) -> list[str]:
        return re.findall(r'<div class="cell-main"><a [^>]*>([^<]+)</a>', browser.get(f"/admin/keys?{query}").text)

    assert names("text=+site+") == ["Site search"]
    assert names("status=revoked&text=laptop") == ["Old laptop"]
    assert set(names("owner=search-service")) == {"Site search"}
    ordered = names("sort=name&owner=boris")
    assert ordered == sorted(ordered)
    assert names("sort=-name&owner=boris") == ordered[::-1]
    assert names("text=no-such-key-anywhere") == []


def test_pages_of_users(browse: Browse, place: Place) -> None:
    """An admin makes an account, whoever follows its link chooses a password, and the admin changes and disables it."""
    admin = browse("anna")
    page = admin.send(
        admin.get("/admin/users/new"), "/admin/users/new", id="vera", name="Vera", kind="user", role="member"
    )
    link = re.search(r"/admin/setup/gkl_[\w-]+", page.text)
    assert link is not None
    vera = browse()
    welcome = vera.send(
        vera.get(link[0]), "/admin/setup", password="a very long password", again="a very long password"
    )
    assert welcome.path == "/admin/"
    assert vera.get(link[0]).status == 404
    admin.send(admin.get("/admin/users/vera/edit"), "/edit", role="admin", rpm="5", longest_access="24")
    edit = admin.get("/admin/users/vera/edit")
    assert ("longest_access", "24") in [field for form in edit.forms for field in form.fields]
    assert admin.send(edit, "/edit", longest_access="9000").status == 400
    assert vera.get("/admin/users").status == 200
    admin.send(admin.get("/admin/users/vera"), "/disable")
    assert vera.get("/admin/").path.startswith("/admin/sign-in")
    assert "Name or password" in vera.sign_in("vera", "a very long password").words
    own = admin.get("/admin/users/anna")
    assert not any("disable" in form.action for form in own.forms)
    token = dict(own.forms[0].fields)["csrf"]
    assert admin.post("/admin/users/anna/disable", [("csrf", token)]).status == 403


def test_users_are_searched(browse: Browse) -> None:
    """By a part of the id or of the name, in either case, also in Cyrillic."""
    browser = browse("anna")

    def ids(text: str) -> list[str]:
        page = browser.send(browser.get("/admin/users"), "/admin/users", text=text)
        return [link.rpartition("/")[2] for link in page.links if re.search(r"/admin/users/(?!new)[^/?]+$", link)]

    assert ids(" LARINA ") == ["anna"]
    assert ids("петров") == ["boris"]
    assert ids("search_") == []
    assert {"anna", "boris", "search-service"} <= set(ids(""))


@pytest.mark.parametrize("change", ["link", "remove-factor", "end-sessions", "disable", "edit"])
def test_nobody_gets_round_their_own_password(browse: Browse, change: str) -> None:
    """With no more than an admin's session nobody gets a link to another password of that admin, nor rid of the second
    factor: what the pages offer for others they refuse for oneself.
    """
    admin = browse("anna")
    token = dict(admin.get("/admin/users/boris").forms[0].fields)["csrf"]
    refused = admin.post(f"/admin/users/anna/{change}", [("csrf", token), ("role", "member")])
    assert refused.status == 403
    assert "/admin/setup/" not in refused.text
    assert "your own account" in refused.words


def test_figures_are_those_of_the_ledger(browse: Browse) -> None:
    """The page's total is what the API tells, and every part is in it; the drawing has a table beside it."""
    page = browse("anna").get("/admin/usage?days=30")
    assert "The same as a table" in page.words
    assert page.text.count('role="img"') == 2
    whole = re.search(r"<dt>Requests</dt><dd>([\d,]+)", page.text)
    assert whole is not None
    rows = re.search(r'id="by-owner".*?</table>', page.text, re.DOTALL)
    assert rows is not None
    parts = re.findall(r'data-label="Requests"><span>([\d,]+)', rows[0])
    assert sum(int(part.replace(",", "")) for part in parts) == int(whole[1].replace(",", ""))


def test_what_is_not_listed_is_summed_up(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more keys than a table holds, the page tells how many there are and what they used in all."""
    browser = browse("anna")
    whole = browser.get("/admin/usage").text
    monkeypatch.setattr(usage, "MOST_SHOWN", 1)
    part = browser.get("/admin/usage").text

    def requests(text: str) -> list[int]:
        rows = re.search(r'id="by-key".*?</section>', text, re.DOTALL)
        assert rows is not None
        found = re.findall(r"Requests\"><span>([\d,]+)|with ([\d,]+) requests", rows[0])
        return [int((one or rest).replace(",", "")) for one, rest in found]

    first, *others = requests(whole)
    assert requests(part) == [first, sum(others)]


def test_charts_show_small_amounts_and_both_parts_of_low_bars() -> None:
    """A chart of kopecks is as high as one of roubles, and a bar that hardly failed is not drawn as failed."""
    small = bars([Value("", "", 0.003), Value("", "", 0.0015)], 880, 240, 2, 4e-6)
    assert [amount for _, amount in small.grid] == pytest.approx([0.001, 0.002, 0.003, 0.004])
    assert small.bars[0].height == pytest.approx(2 * small.bars[1].height, abs=0.2)
    assert [amount for _, amount in bars([Value("", "", 0)], 880, 240, 2, 4e-6).grid] == [1, 2, 3, 4]
    low, all_failed, _ = bars([Value("", "", 5, 1), Value("", "", 5, 5), Value("", "", 1e9)], 880, 240, 2).bars
    assert low.height > 0
    assert low.bad_height > 0
    assert all_failed.height == 0


def test_language_and_colours_are_remembered(browse: Browse) -> None:
    """What was chosen is stronger than what the browser prefers, and one comes back to the same page."""
    browser = browse(None, "de, ru;q=0.8, en;q=0.7")
    page = browser.get("/admin/sign-in")
    assert '<html lang="ru"' in page.text
    page = browser.send(page, "/admin/preferences", language="en")
    assert (page.path, '<html lang="en"' in page.text) == ("/admin/sign-in", True)
    page = browser.send(page, "/admin/preferences", theme="dark")
    assert 'data-theme="dark"' in page.text
    assert '<html lang="en"' in page.text


def test_static_files_are_kept_for_ever(browse: Browse, place: Place) -> None:
    """Under a name made of their bytes; another name is not there."""
    text = browse().get("/admin/sign-in").text
    files = re.findall(r'(?:href|src)="(/admin/static/[^"]+)"', text)
    assert len(files) >= 4
    with httpx.Client(base_url=place.address, trust_env=False) as client:
        for file in files:
            answer = client.get(file)
            assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
        for wrong in (
            "/admin/static/0/style.css",
            files[0].replace("icon.svg", "..%2fpages.py"),
            "/admin/static/x/__init__.py",
        ):
            assert client.get(wrong).status_code in {303, 404}


def test_pages_that_are_not_there(browse: Browse) -> None:
    """They say so in the frame of the others."""
    page: Page = browse("anna", "ru").get("/admin/no-such-page")
    assert page.status == 404
    assert "Такой страницы нет" in page.words
    assert browse("anna").get("/admin/keys/key_nothing").status == 404
    assert browse("anna").get("/admin/keys?after=%00").status == 400


def test_the_page_of_providers_tells_how_models_do(browse: Browse, place: Place) -> None:
    """A model that was asked is there with its circuit, its attempts, its times and its failures."""
    browser = browse("anna")
    _, secret = made(browser, name="Asking")
    asked = httpx.post(
        f"{place.address}/v1/chat/completions",
        json={"model": "GigaChat-2", "messages": [{"role": "user", "content": "Hello!"}]},
        headers={"authorization": f"Bearer {secret}"},
        trust_env=False,
    )
    assert asked.status_code == 200
    page = browser.get("/admin/providers")
    assert re.search(r"GigaChat-2 in use 0 [1-9]\d* [\d.]+ m?s [\d.]+ m?s 0 ", page.words), page.words
