"""Russian: no English is left on any page, and what services say with figures in it is said in the right form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from gatewaykit_oauth.faults import Fault
from gatewaykit_oauth.keys.checks import checked
from gatewaykit_oauth.keys.model import KeySpec
from gatewaykit_oauth.web.languages import language
from gatewaykit_oauth.words import counted

from ..conftest import NOW
from .browser import Browser, Page
from .conftest import Place

Browse = Callable[..., Browser]
MOST_PAGES = 120
SPOKEN = {"aria-label", "title", "placeholder", "alt", "data-label", "data-copied"}
SILENT = {"code", "pre", "script", "style", "option", "textarea"}
CODES = re.compile(r"\b(key|client|grant)_[\w-]+|\S+@\S+|\S+/\S*")
LATIN = re.compile(r"[A-Za-z][A-Za-z']+")
_NAMES = """
    gatewaykit English API UTC URL SVG QR curl Python SDK metrics GigaChat Max Embeddings gigachat fake
    Anna Larina Site search Notebook Nightly report Old laptop Intern Sold in spring Atlas Testium anna boris service
    inference usage keys admin user example com cli app OAuth DPoP https http
"""
NAMES = frozenset(_NAMES.split())
"""What has one name in all languages, and what the people and keys of the tests are called."""


class Texts(HTMLParser):
    """All that somebody reads or hears, but for what programs read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []
        self._quiet = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found += [value for name, value in given.items() if name in SPOKEN]
        if tag in {"meta", "link", "input", "img", "br", "hr", "path", "rect", "line"}:
            return
        quiet = tag in SILENT or ("lang" in given and tag != "html") or "tag" in given.get("class", "").split()
        self._open.append("quiet" if quiet else "")
        self._quiet += quiet

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in {"meta", "link", "input", "img", "br", "hr", "path", "rect", "line"}:
            self._quiet -= self._open.pop() == "quiet"

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.found.append(data)


def english(page: Page) -> set[str]:
    """Texts with Latin words that are no names."""
    reader = Texts()
    reader.feed(page.text)
    return {
        re.sub(r"\s+", " ", text).strip()
        for text in reader.found
        if any(word not in NAMES for word in LATIN.findall(CODES.sub("", text)))
    }


def pages(browser: Browser, start: str) -> Iterator[Page]:
    """All pages that links lead to, one of each kind of list."""
    waiting, known = [start], {start}
    while waiting and len(known) <= MOST_PAGES:
        page = browser.get(waiting.pop(0))
        yield page
        for link in page.links:
            path = urljoin(page.path, link).partition("#")[0]
            kind = urlsplit(path)._replace(query="").geturl() if "sort=" in path or "days=" in path else path
            if path.startswith(("/admin/", "/oauth/")) and kind not in known:
                known.add(kind)
                waiting.append(path)


@pytest.mark.parametrize("name", ["anna", "boris"])
def test_no_english_is_left(browse: Browse, place: Place, name: str) -> None:
    """On no page that a link leads to, for either role."""
    browser = browse(name, "ru")
    found = {page.path: english(page) for page in pages(browser, "/admin/")}
    assert len(found) > (25 if name == "anna" else 10)
    assert {path: texts for path, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "x" * 101, "не длиннее 100 печатных символов"),
        ("note", "x" * 1001, "не длиннее 1000 печатных символов"),
        ("models", "\n".join(f"m{n}" for n in range(65)), "не больше 64"),
        ("models", "m" * 129, "не длиннее 128 печатных символов, и '*' в ней не больше 8"),
        ("routes", "\n".join(f"/{n}" for n in range(65)), "не больше 64"),
        ("networks", "\n".join(f"192.0.2.{n}" for n in range(65)), "не больше 64"),
        ("networks", "here", "первый адрес и длина"),
        ("scopes", None, "inference, usage, keys, admin"),
        ("rpm", "many", "целое число"),
        ("models", "[", "использовать нельзя"),
    ],
)
def test_a_fault_is_told_with_its_figures(browse: Browse, field: str, value: str | None, said: str) -> None:
    """At the field, in Russian, and there is no English beside it."""
    browser = browse("anna", "ru")
    page = browser.send(browser.get("/admin/keys/new"), "/admin/keys/new", **{"name": "Intern", field: value})
    assert page.status == 400
    assert said in page.words
    assert english(page) == set()


def test_figures_choose_the_form() -> None:
    """Russian has three forms of plural, and its own marks in numbers; English text is what programs get."""
    russian, english = language("ru"), language("en")
    words = [counted("%(n)s day ago", "%(n)s days ago", number) for number in (1, 3, 11, 12_345)]
    assert [russian.filled(one) for one in words] == [
        "1 день назад",
        "3 дня назад",
        "11 дней назад",
        "12\u00a0345 дней назад",
    ]
    assert [english.filled(one) for one in words[:2]] == ["1 day ago", "3 days ago"]
    with pytest.raises(Fault, match="The name must be 1 to 100 printable characters") as caught:
        checked(KeySpec(name=""), NOW)
    assert caught.value.message == str(caught.value.words)
    assert "100 печатных" in russian.filled(caught.value.words)
