"""Debian's Chromium at the pages: what it needs, what it complains of, and pictures of what it sees.

Pictures are kept in the folder that ``TESTS_ARTEFACTS`` names, where it is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gatewaykit.testing import machine

from .browser import PASSWORD

HOW = "install Chromium (Debian: chromium) and pip's playwright and axe-playwright-python"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 120_000
"""Milliseconds: longer than a page takes on the busiest machine."""

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def keep(page: Any, name: str) -> None:
    """A picture, where somebody wants it."""
    if folder := os.environ.get("TESTS_ARTEFACTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def watched(context: Any, *addresses: str, complaints: list[str] | None = None) -> tuple[Any, list[str]]:
    """A page, and all that a browser complains of: refusals by policy, faults of scripts, requests to elsewhere."""
    context.set_default_timeout(PATIENCE)
    page, complaints = context.new_page(), [] if complaints is None else complaints
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((*addresses, "data:")) else complaints.append(request.url),
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


@contextmanager
def launched() -> Iterator[Any]:
    """A browser."""
    program = machine.program("chromium", HOW, "chromium", "chromium-browser")
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None:
        machine.missing("chromium", HOW)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


def faults(page: Any) -> list[str]:
    """What axe finds wrong with a page, at WCAG 2.2 AA and by best practice."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}})
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in results.response["violations"]]


def cut_off(page: Any) -> list[str]:
    """Tables of which a part can only be scrolled to, and cells with text that stands out of them. A region that the
    keyboard can scroll says so by its ``tabindex``.
    """
    cells = ".table:not([tabindex]), :is(.reflow td, .reflow th) > :not(.unseen, svg), .figure dd"
    return list(
        page.evaluate(
            """cells => [...document.querySelectorAll(cells)]
            .filter(one => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
            .map(one => `cut off at ${innerWidth}: ${one.innerText.slice(0, 60)}`)""",
            cells,
        )
    )


def seen(page: Any, name: str) -> list[str]:
    """The same, and whether the page is wider than a narrow window; a picture of both."""
    found = faults(page) + cut_off(page)
    keep(page, name)
    page.set_viewport_size({"width": 320, "height": 700})
    if page.evaluate("document.documentElement.scrollWidth") > 320:
        found.append("wider than 320 pixels")
    found += cut_off(page)
    keep(page, f"{name}-narrow")
    page.set_viewport_size({"width": 1280, "height": 900})
    return found
