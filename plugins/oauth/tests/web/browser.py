"""A browser without a screen: it keeps cookies, says where forms come from, and fills in the forms of the pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import urljoin

import httpx

PASSWORD = "correct horse battery staple"


class Page:
    """What came back, read."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.text = response.text
        self.path = response.request.url.raw_path.decode()
        self.forms: list[FormFound] = []
        self.links: list[str] = []
        self.words = ""
        if "html" in response.headers.get("content-type", ""):
            reader = _Reader()
            reader.feed(self.text)
            self.forms, self.links = reader.forms, reader.links
            self.words = re.sub(r"\s+", " ", "".join(reader.words))

    def form(self, action: str) -> FormFound:
        """The form that goes to this path; the only one of its kind."""
        found = [form for form in self.forms if re.search(action, form.action or self.path)]
        assert len(found) == 1, (action, [form.action for form in self.forms], self.words[:300])
        return found[0]


class FormFound:
    """A form of a page, with what its fields hold."""

    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        self.fields: list[tuple[str, str]] = []


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[FormFound] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._select: str | None = None
        self._area: str | None = None
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(FormFound(given.get("action", ""), given.get("method", "get")))
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif tag in {"script", "style"}:
            self._silent = True
        elif tag == "input" and "name" in given:
            ticked = given.get("type") not in {"checkbox", "radio"} or "checked" in given
            if ticked:
                self.forms[-1].fields.append((given["name"], given.get("value", "")))
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and "selected" in given and self._select:
            self.forms[-1].fields.append((self._select, given.get("value", "")))
        elif tag == "textarea":
            self._area = given["name"]
            self.forms[-1].fields.append((self._area, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        elif tag == "textarea":
            self._area = None
        elif tag in {"script", "style"}:
            self._silent = False

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            name, value = self.forms[-1].fields[-1]
            self.forms[-1].fields[-1] = (name, value + data)
        if not self._silent:
            self.words.append(data)


class Browser:
    """One person's browser, at a gateway."""

    def __init__(self, address: str, language: str = "en", **headers: str) -> None:
        given = {"accept-language": language, "user-agent": "Testium/1.0", **headers}
        self.client = httpx.Client(base_url=address, headers=given, follow_redirects=True, timeout=120, trust_env=False)
        self.address = address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def get(self, path: str, **headers: str) -> Page:
        """Open a page."""
        return Page(self.client.get(path, headers=headers))

    def send(self, page: Page, action: str, **values: Any) -> Page:
        """Fill in a form of the page and send it as browsers do; ``None`` leaves a field out."""
        form = page.form(action)
        fields = [(name, value) for name, value in form.fields if name not in values]
        for name, value in values.items():
            many = value if isinstance(value, list | tuple) else [value]
            fields += [(name, str(one)) for one in many if one is not None]
        target = urljoin(str(page.response.request.url), form.action or page.path)
        if form.method == "get":
            return Page(self.client.get(target, params=fields))
        return self.post(target, fields)

    def post(self, target: str, fields: list[tuple[str, str]], **headers: str) -> Page:
        """Send fields, as a page of the gateway would."""
        said = {"sec-fetch-site": "same-origin", "origin": self.address, **headers}
        data = {}
        for name, value in fields:
            data.setdefault(name, []).append(value)
        return Page(self.client.post(target, data=data, headers=said))

    def sign_in(self, name: str, password: str = PASSWORD) -> Page:
        """Through the page."""
        return self.send(self.get("/admin/sign-in"), "/admin/sign-in", name=name, password=password)
