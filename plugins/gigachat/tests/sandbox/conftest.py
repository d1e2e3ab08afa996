"""One running sandbox per module, and a client that speaks to it."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
import msgspec
import pytest

from gatewaykit_gigachat.sandbox import B2B, RunningSandbox, running_sandbox

Check = Callable[[], bool]
# Plain HTTP only: an empty context spares each client the reading of the system's certificates.
NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass
class Api:
    """A plain HTTP client of one sandbox with a fresh token."""

    running: RunningSandbox
    http: httpx.Client

    @classmethod
    def open(cls, running: RunningSandbox, scope: str = B2B) -> Api:
        api = cls(running, httpx.Client(base_url=running.base_url, timeout=20, verify=NO_TRUST))
        api.login(scope)
        return api

    def login(self, scope: str = B2B) -> None:
        answer = self.authorize({"scope": scope}, self.running.key(scope))
        self.http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    def authorize(self, form: dict[str, str], key: str | None, **headers: str) -> httpx.Response:
        basic = "" if key is None else f"Basic {key}"
        sent = {"rquid": str(uuid.uuid4()), "authorization": basic, **headers}
        return self.http.post(self.running.auth_url, data=form, headers=sent)

    def user_token(self, key: str, base_url: str | None = None) -> httpx.Response:
        url = f"{base_url or self.running.base_url}/token"
        return self.http.post(url, headers={"authorization": f"Basic {key}"})

    def chat(self, content: str = "hello", headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"model": "GigaChat-2-Max", "messages": [{"role": "user", "content": content}], **fields}
        return self.http.post("/chat/completions", json=body, headers=headers)

    def message(self, content: str, **fields: Any) -> dict[str, Any]:
        answer = self.chat(content, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]

    def stream(self, content: str, headers: dict[str, str] | None = None, **fields: Any) -> list[Any]:
        return events(self.chat(content, headers, stream=True, **fields).text)

    def fault(self, text: str, content: str = "say 9 words", **fields: Any) -> httpx.Response:
        return self.chat(content, {"x-sandbox-fault": text}, **fields)

    def upload(self, name: str, content: bytes, mime: str, **headers: str) -> httpx.Response:
        return self.http.post(
            "/files", files={"file": (name, content, mime)}, data={"purpose": "general"}, headers=headers
        )


def events(text: str) -> list[Any]:
    """The decoded events of a stream; ``[DONE]`` stays text."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    lines = [part.removeprefix("data: ") for part in parts]
    return [line if line == "[DONE]" else msgspec.json.decode(line) for line in lines]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSandbox]:
    """A sandbox with default settings."""
    with running_sandbox() as running:
        yield running


@pytest.fixture
def api(running: RunningSandbox) -> Iterator[Api]:
    """A client with a B2B token; planned faults of an earlier test are forgotten."""
    running.sandbox.token_rate = type(running.sandbox.token_rate)(1000, running.sandbox.settings.clock)
    running.faults.clear()
    api = Api.open(running)
    yield api
    api.http.close()


@pytest.fixture
def open_api() -> Iterator[Callable[..., Api]]:
    """Makes clients for a sandbox of the test's own; closes them afterwards."""
    opened: list[Api] = []

    def make(running: RunningSandbox, scope: str = B2B) -> Api:
        opened.append(Api.open(running, scope))
        return opened[-1]

    yield make
    for api in opened:
        api.http.close()


@pytest.fixture
def until() -> Callable[[Check], None]:
    """Waits for a condition that another thread brings about; fails after ten seconds."""

    def wait(condition: Check) -> None:
        deadline = monotonic() + 10
        while not condition():
            assert monotonic() < deadline, "the condition did not come about"

    return wait
