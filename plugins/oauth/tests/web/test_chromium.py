"""The pages in a real browser: what two engines find wrong, the keyboard alone, and what scripts do better."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyotp import TOTP

from gatewaykit.testing import machine
from gatewaykit_oauth.accounts import put_account
from gatewaykit_oauth.keys import store
from gatewaykit_oauth.keys.model import Account, KeyLimits, KeySpec
from gatewaykit_oauth.server import clients
from gatewaykit_oauth.server.model import DEVICE_CODE, ClientSpec, NewClient
from gatewaykit_oauth.server.settings import OAuthSettings
from gatewaykit_oauth.signin import links
from gatewaykit_oauth.signin.credentials import remove_factor

from ..oauth_world import VERIFIER, challenge_of
from .browser import PASSWORD
from .chromium import cut_off, seen, signed_in
from .conftest import Place
from .seeding import CLI, SECRETS, add_usage

HOW_NODE = "install Node 20 or newer (Debian: nodejs, npm), then: npm ci --prefix plugins/oauth/tests/node"
NODE = Path(__file__).resolve().parents[1] / "node"
PAGES = {
    "overview": "/admin/",
    "live": "/admin/live?every=0",
    "keys": "/admin/keys",
    "key-new": "/admin/keys/new",
    "key": "/admin/keys/{key}",
    "key-edit": "/admin/keys/{key}/edit",
    "key-rotate": "/admin/keys/{key}/rotate",
    "key-revoke": "/admin/keys/{key}/revoke",
    "usage": "/admin/usage",
    "users": "/admin/users",
    "user": "/admin/users/boris",
    "user-new": "/admin/users/new",
    "audit": "/admin/audit",
    "providers": "/admin/providers",
    "account": "/admin/account",
    "factor": "/admin/account/factor",
    "grants": "/admin/grants",
    "grant": "/admin/grants/{grant}",
    "clients": "/admin/clients",
    "client": "/admin/clients/one?id={client}",
    "client-new": "/admin/clients/new",
    "client-edit": "/admin/clients/one/edit?id={client}",
    "device": "/oauth/device",
    "confirm": "/admin/confirm",
    "nothing": "/admin/no-such-page",
}


Special = Iterator[tuple[str, Any]]


def at(place: Place, path: str) -> str:
    """The path of a page about something that there is."""
    return path.format(key=place.keys["Notebook"], client=place.client, grant=place.grant)


def registered(place: Place, **spec: Any) -> NewClient:
    """A program that may ask people for access."""
    with place.gateway.storage.transaction() as session:  # type: ignore[union-attr]
        settings = place.gateway.settings.get(OAuthSettings)
        return clients.create(session, CLI, ClientSpec(**spec), secrets=SECRETS, settings=settings)


def special(page: Any, place: Place) -> Special:
    """Pages that have no address of their own, each on the way on which somebody meets it; ``page`` is an admin's."""
    address = place.address
    page.goto(f"{address}/admin/keys/new")
    page.fill("#name", "x")
    page.fill("#rpm", "many")
    page.locator("main button[type=submit]").click()
    yield "key-faulty", page
    page.fill("#rpm", "")
    page.locator("main button[type=submit]").click()
    page.locator("#secret").wait_for()
    yield "key-secret", page
    page.goto(f"{address}/admin/clients/new")
    page.fill("#name", "Robot")
    page.select_option("#kind", "confidential")
    page.locator("main button[type=submit]").click()
    page.locator("#redirect_uris-problem").wait_for()
    yield "client-faulty", page
    page.fill("#redirect_uris", "https://robot.example/cb")
    page.locator("main button[type=submit]").click()
    page.locator("#secret").wait_for()
    yield "client-secret", page
    page.goto(f"{address}/admin/users/boris")
    page.locator("form[action$='/link'] button").click()
    page.locator("#link").wait_for()
    yield "user-link", page
    asked = {"response_type": "code", "scope": "inference usage", "code_challenge": challenge_of(VERIFIER)}
    program = registered(place, name="Notebook", redirect_uris=("http://127.0.0.1/cb",), access_seconds=31_536_000)
    where = {"client_id": program.client.id, "redirect_uri": "http://127.0.0.1:9/cb", "code_challenge_method": "S256"}
    page.goto(f"{address}/oauth/authorize?{httpx.QueryParams({**asked, **where})}")
    yield "consent", page
    device = registered(place, name="Terminal", grants=(DEVICE_CODE,))
    codes = httpx.post(f"{address}/oauth/device", data={"client_id": device.client.id}, trust_env=False).json()
    page.goto(codes["verification_uri_complete"])
    yield "device-consent", page
    page.locator("button[value=allow]").click()
    yield "device-done", page
    yield from of_somebody_new(page.context.browser, page, place)


def of_somebody_new(browser: Any, admin: Any, place: Place) -> Special:
    """From the first link over a second factor to a sign-in with it; Boris is as before in the end."""
    storage: Any = place.gateway.storage
    shape = {"locale": admin.evaluate("document.documentElement.lang"), "viewport": admin.viewport_size}
    dark = admin.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    context = browser.new_context(**shape, color_scheme="dark" if dark else "light")
    page = context.new_page()
    with storage.transaction() as session:
        token = links._made(session, None, datetime.now(UTC))
    page.goto(f"{place.address}/admin/setup/{token}")
    yield "setup", page
    page, _ = signed_in(context, place.address, "boris")
    page.goto(f"{place.address}/admin/account/factor")
    page.fill("#code", TOTP(page.locator("#factor-secret").inner_text().replace(" ", "")).now())
    page.locator("main button[type=submit]").click()
    page.locator("#codes").wait_for()
    yield "recovery", page
    page.goto(f"{place.address}/admin/account")
    yield "account-with-factor", page
    context.clear_cookies()
    page.goto(f"{place.address}/admin/sign-in")
    yield "sign-in", page
    page.fill("#name", "boris")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_url("**/admin/code**")
    yield "code", page
    with storage.transaction() as session:
        remove_factor(session, CLI, "boris", datetime.now(UTC))
    context.close()


@pytest.mark.parametrize(("code", "theme"), [("en", "light"), ("ru", "dark")])
def test_axe_finds_nothing(chromium: Any, place: Place, code: str, theme: str) -> None:
    """On any page, at WCAG 2.2 AA and by best practice; no page is wider than 320 pixels; nothing from elsewhere."""
    found: dict[str, list[str]] = {}
    context = chromium.new_context(locale=code, color_scheme=theme, viewport={"width": 1280, "height": 900})
    page, complaints = signed_in(context, place.address)
    for name, path in PAGES.items():
        page.goto(place.address + at(place, path))
        found[name] = seen(page, f"{name}-{code}-{theme}")
    for name, met in special(page, place):
        found[name] = seen(met, f"{name}-{code}-{theme}")
    context.close()
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert complaints == []


def test_html_validate_finds_nothing(chromium: Any, place: Place, tmp_path: Path) -> None:
    """Another engine than axe: it reads the markup, and knows names that are only placeholders."""
    if shutil.which("node") is None or not (NODE / "node_modules/html-validate").is_dir():
        machine.missing("node", HOW_NODE)
    context = chromium.new_context(locale="en")
    page, _ = signed_in(context, place.address)
    for name, path in PAGES.items():
        answer = page.request.get(place.address + at(place, path))
        (tmp_path / f"{name}.html").write_text(answer.text())
    for name, met in special(page, place):
        (tmp_path / f"{name}.html").write_text(f"<!DOCTYPE html>{met.evaluate('document.documentElement.outerHTML')}")
    context.close()
    config = {
        "extends": ["html-validate:standard", "html-validate:a11y"],
        "rules": {
            "no-trailing-whitespace": "off",
            "void-style": "off",
            "attribute-boolean-style": "off",
            "attribute-empty-style": "off",
            "long-title": "off",
            "no-inline-style": "error",
        },
    }
    (tmp_path / ".htmlvalidate.json").write_text(json.dumps({"root": True, **config}))
    checker = NODE / "node_modules/.bin/html-validate"
    done = subprocess.run(
        [checker, "--formatter=text", "--config", tmp_path / ".htmlvalidate.json", *sorted(tmp_path.glob("*.html"))],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=NODE,
    )
    assert done.returncode == 0, done.stdout


def test_the_keyboard_alone(chromium: Any, place: Place) -> None:
    """The first stop skips to the content; every stop can be seen; the menu opens, and Escape gives the focus back."""
    context = chromium.new_context(locale="en")
    page, _ = signed_in(context, place.address)
    page.goto(f"{place.address}/admin/keys")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.locator("details.menu summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("details.menu").get_attribute("open") is not None
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert page.locator("details.menu").get_attribute("open") is None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    outlined = page.evaluate(
        """() => [...document.querySelectorAll("main a, main button, main input, main select")].filter(one => {
            one.focus({focusVisible: true});
            return one === document.activeElement && getComputedStyle(one).outlineStyle === "none";
        }).map(one => one.outerHTML.slice(0, 100))"""
    )
    assert outlined == []
    context.close()


def test_the_list_follows_what_is_typed(chromium: Any, place: Place) -> None:
    """With scripts the list is searched while one types, and the address follows."""
    context = chromium.new_context(locale="en")
    page, complaints = signed_in(context, place.address)
    page.goto(f"{place.address}/admin/keys")
    page.locator("#text").press_sequentially("site")
    page.wait_for_url("**text=site**")
    page.locator("#results", has_not_text="Notebook").wait_for()
    assert "Site search" in page.locator("#results").inner_text()
    context.close()
    assert complaints == []


def test_a_list_tells_when_it_cannot_be_had(chromium: Any, place: Place) -> None:
    """A search that fails shows the gateway's answer instead of the list of before, and the way back after the end of
    the session leads to the sign-in, not to an empty page.
    """
    context = chromium.new_context()
    page, _ = signed_in(context, place.address)
    page.goto(f"{place.address}/admin/keys")
    for text in ("Note", "Site"):
        page.fill("#text", text)
        page.wait_for_url(f"**text={text}**")
    page.route("**text=Old**", lambda route: route.fulfill(status=503, body="not now", content_type="text/plain"))
    page.fill("#text", "Old")
    page.get_by_text("not now").wait_for()
    page.go_back()
    page.locator("#results a", has_text="Site").wait_for()
    context.clear_cookies()
    page.go_back()
    page.wait_for_url("**/sign-in**")
    context.close()


def test_what_is_typed_is_chosen(chromium: Any, place: Place) -> None:
    """A day that is typed is the end of the key, and another choice takes it away."""
    context = chromium.new_context()
    page, _ = signed_in(context, place.address)
    page.goto(f"{place.address}/admin/keys/new")
    page.fill("#expires", "2399-03-01")
    assert page.input_value("#lifetime") == "date"
    page.select_option("#lifetime", "30")
    assert page.input_value("#expires") == ""
    context.close()


def test_the_keyboard_alone_makes_and_revokes_a_key(chromium: Any, place: Place) -> None:
    """In a narrow window, without scripts: from the list through both forms and back, by Tab, Space and Enter."""
    context = chromium.new_context(locale="en", java_script_enabled=False, viewport={"width": 320, "height": 640})
    page, complaints = signed_in(context, place.address)

    def press_on(selector: str, key: str = "Enter") -> None:
        wanted = page.locator(selector).first
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.locator(f"{selector}:focus").count():
                assert wanted.bounding_box()["height"] >= 24
                page.keyboard.press(key)
                return
        raise AssertionError(f"Tab does not reach {selector}")

    page.goto(f"{place.address}/admin/keys")
    press_on("main a[href$='/keys/new']")
    page.wait_for_url("**/keys/new")
    press_on("#name", "K")
    page.keyboard.type("eyboard")
    press_on("main form.narrow button[type=submit]")
    assert page.locator("#secret").inner_text().startswith("gk_")
    press_on("main .actions a.is-main")
    press_on("main .actions a.is-bad")
    press_on("#name", "K")
    page.keyboard.type("eyboard")
    page.keyboard.press("Enter")
    page.wait_for_url("**done=revoked")
    context.close()
    assert complaints == []


def test_the_live_page_renews_itself_while_somebody_looks(chromium: Any, place: Place) -> None:
    """Every few seconds; not in a tab that is hidden, at once when it is shown again; and it says when it is old."""
    context = chromium.new_context(locale="en")
    page, complaints = signed_in(context, place.address)
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "hx-request" in request.headers else None)
    page.goto(f"{place.address}/admin/live")
    page.locator("#again").focus()
    with page.expect_response("**/admin/live?every=5"):
        page.clock.run_for(5100)
    page.wait_for_function("document.activeElement.id === 'again'")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    before = len(asked)  # on a busy machine it may have asked more than once
    page.clock.run_for(30_000)
    assert len(asked) == before
    page.evaluate("delete document.hidden")
    with page.expect_response("**/admin/live?every=5"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert not page.locator("#stale").is_visible()
    assert complaints == []
    context.set_offline(True)
    page.clock.run_for(5100)
    page.locator("#stale").wait_for(state="visible")
    context.set_offline(False)
    page.clock.run_for(5100)
    page.locator("#stale").wait_for(state="hidden")
    context.close()


def test_the_longest_names_and_amounts_stay_on_the_page(chromium: Any, place: Place) -> None:
    """A name without a space, an address for an id and the largest limits are wrapped, on every screen."""
    most, owner = 2**53, f"{'o' * 30}@{'d' * 27}.test"
    limits = KeyLimits(rpm=most, tpm=most, rpd=most, tpd=most, concurrency=most, budget=most)
    with place.gateway.storage.transaction() as session:  # type: ignore[union-attr]
        put_account(session, CLI, Account(id=owner, name="W" * 100, limits=limits, models=("m" * 128,)))
        spec = KeySpec(name="W" * 100, owner=owner, models=("m" * 128, "n" * 128), limits=limits, note="w" * 1000)
        key = store.create(session, CLI, spec, secrets=SECRETS).key.id
        add_usage(session, {"Site search": key, "Notebook": "n" * 128, "Nightly report": "r" * 128}, days=1)
    context = chromium.new_context(locale="ru")
    page, complaints = signed_in(context, place.address)
    found = []
    paths = ("keys", f"keys/{key}", f"keys/{key}/edit", "users", f"users/{owner}", "usage", "audit")
    for path in paths:
        page.goto(f"{place.address}/admin/{path}")
        for width in (1440, 1280, 768, 320):
            page.set_viewport_size({"width": width, "height": 900})
            whole = page.evaluate("document.documentElement.scrollWidth")
            found += [(path, width, one) for one in (*cut_off(page), *(["too wide"] if whole > width else []))]
    context.close()
    assert (found, complaints) == ([], [])
