"""The pages in a real browser: a person's way through them in each language, and what two engines find wrong with them.

Pictures of every page are kept in the folder that ``TESTS_ARTEFACTS`` names, where it is set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewaykit.testing import machine, running
from gatewaykit_oauth.web.languages import language

from .browser import PASSWORD
from .conftest import Place
from .seeding import seeded_gateway

HOW = "install Chromium (Debian: chromium) and pip's playwright and axe-playwright-python"
HOW_NODE = "install Node 20 or newer (Debian: nodejs, npm), then: npm ci --prefix plugins/oauth/tests/node"
NODE = Path(__file__).resolve().parents[1] / "node"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = {
    "overview": "/admin/",
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
    "confirm": "/admin/confirm",
    "nothing": "/admin/no-such-page",
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    program = machine.program("chromium", HOW, "chromium", "chromium-browser")
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None:
        machine.missing("chromium", HOW)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


def keep(page: Any, name: str) -> None:
    """A picture, where somebody wants it."""
    if folder := os.environ.get("TESTS_ARTEFACTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def watched(context: Any, address: str) -> tuple[Any, list[str]]:
    """A page, and all that a browser complains of: refusals by policy, faults of scripts, requests to elsewhere."""
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((address, "data:")) else complaints.append(request.url),
    )

    def said(message: Any) -> None:
        if message.type in {"error", "warning"} and "status of" not in message.text:
            complaints.append(message.text)

    page.on("console", said)
    return page, complaints


def signed_in(context: Any, address: str, name: str = "anna") -> tuple[Any, list[str]]:
    """A page of somebody who is signed in."""
    page, complaints = watched(context, address)
    page.goto(f"{address}/admin/sign-in")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_url(f"{address}/admin/")
    return page, complaints


@pytest.mark.parametrize("code", ["en", "ru"])
def test_a_person_s_way(chromium: Any, tmp_path: Path, code: str) -> None:
    """From the first link to a key that works, with the copy button, and to one that does not any more."""
    from playwright.sync_api import Error

    say = language(code).gettext
    gateway = seeded_gateway(tmp_path)
    with running(gateway) as address:
        context = chromium.new_context(locale=code, permissions=["clipboard-read", "clipboard-write"])
        page, complaints = watched(context, address)
        page.goto(dict(gateway.greetings(address))["set up"])
        page.get_by_label(say("Name"), exact=True).fill("first")
        page.get_by_label(say("Password"), exact=True).fill(PASSWORD)
        page.get_by_label(say("The password again")).fill(PASSWORD)
        keep(page, f"setup-{code}")
        page.get_by_role("button", name=say("Save and sign in")).click()
        page.wait_for_url(f"{address}/admin/")
        page.get_by_role("button", name=say("Sign out")).click()
        page.wait_for_url("**/sign-in**")
        page.fill("#name", "first")
        page.fill("#password", PASSWORD)
        page.locator("main button[type=submit]").click()
        page.wait_for_url(f"{address}/admin/")
        page.get_by_role("link", name=say("New key")).first.click()
        page.get_by_label(say("Name"), exact=True).fill("Reader")
        page.get_by_role("button", name=say("Make the key")).click()
        secret = page.locator("#secret").inner_text()
        page.locator(".secret").get_by_role("button").click()
        page.locator("#announcement", has_text=say("Copied")).wait_for(state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == secret
        keep(page, f"key-secret-{code}")
        curl = page.locator("#snippet-1").inner_text()
        answer = subprocess.run(
            ["bash", "-c", curl.replace("curl ", "curl -s ", 1)], capture_output=True, text=True, timeout=30
        )
        assert json.loads(answer.stdout)["choices"][0]["message"]["content"] == "Hello!"
        page.get_by_role("link", name=say("I have saved it")).click()
        assert secret not in page.content()
        with suppress(Error):  # the browser has not kept the answer, and asks whether to send the form again
            page.go_back()
            assert secret not in page.content()
        page.close()
        page, more = watched(context, address)
        page.goto(f"{address}/admin/keys?text=Reader")
        page.get_by_role("link", name="Reader").click()
        page.get_by_role("link", name=say("Revoke")).click()
        page.get_by_label(say("Type the name of the key to confirm")).fill("Reader")
        page.get_by_role("button", name=say("Revoke for good")).click()
        page.get_by_text(say("The key is revoked.")).wait_for()
        keep(page, f"key-revoked-{code}")
        headers = {"authorization": f"Bearer {secret}"}
        assert httpx.get(f"{address}/v1/models", headers=headers, trust_env=False).status_code == 401
        context.close()
    assert complaints + more == []


@pytest.mark.parametrize(("code", "theme"), [("en", "light"), ("ru", "dark")])
def test_axe_finds_nothing(chromium: Any, place: Place, code: str, theme: str) -> None:
    """On any page, at WCAG 2.2 AA and by best practice; no page is wider than 320 pixels; nothing from elsewhere."""
    from axe_playwright_python.sync_playwright import Axe

    found: dict[str, list[str]] = {}
    context = chromium.new_context(locale=code, color_scheme=theme, viewport={"width": 1280, "height": 900})
    page, complaints = signed_in(context, place.address)
    for name, path in PAGES.items():
        page.goto(place.address + path.format(key=place.keys["Notebook"]))
        results = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}})
        faults = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in results.response["violations"]]
        keep(page, f"{name}-{code}-{theme}")
        page.set_viewport_size({"width": 320, "height": 700})
        if page.evaluate("document.documentElement.scrollWidth") > 320:
            faults.append("wider than 320 pixels")
        keep(page, f"{name}-{code}-{theme}-narrow")
        page.set_viewport_size({"width": 1280, "height": 900})
        if faults:
            found[name] = faults
    page.get_by_role("button", name=re.compile("Sign out|Выйти")).click()
    page.wait_for_url("**/sign-in**")
    results = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}})
    assert [one["id"] for one in results.response["violations"]] == []
    context.close()
    assert found == {}
    assert complaints == []


def test_html_validate_finds_nothing(chromium: Any, place: Place, tmp_path: Path) -> None:
    """Another engine than axe: it reads the markup, and knows names that are only placeholders."""
    if shutil.which("node") is None or not (NODE / "node_modules/html-validate").is_dir():
        machine.missing("node", HOW_NODE)
    context = chromium.new_context(locale="en")
    page, _ = signed_in(context, place.address)
    for name, path in PAGES.items():
        answer = page.request.get(place.address + path.format(key=place.keys["Notebook"]))
        (tmp_path / f"{name}.html").write_text(answer.text())
    context.close()
    config = {
        "extends": ["html-validate:standard", "html-validate:a11y"],
        "rules": {
            "no-trailing-whitespace": "off",
            "void-style": "off",
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
