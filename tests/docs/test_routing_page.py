"""Every example of the chapter on routing is executed: the configuration as it stands, and the requests below it."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewaykit import (
    Call,
    ContentBlocked,
    ContextTooLong,
    Event,
    Finished,
    Gateway,
    GatewayError,
    Provider,
    ProviderBadAnswer,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
    Target,
    TextDelta,
)
from gatewaykit.testing import KEY, gateway_client, make_gateway, plugin_of, until

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/routing.md", "docs/ru/routing.md"]
EXAMPLE = re.compile(r"```toml\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
RESEARCH = "gk_research_0123456789abcdef"
FAILURES: dict[str, type[GatewayError]] = {
    "unavailable": ProviderUnavailable,
    "timeout": ProviderTimeout,
    "unpaid": ProviderUnpaid,
    "context_too_long": ContextTooLong,
    "content_blocked": ContentBlocked,
    "bad_answer": ProviderBadAnswer,
}
TIMES = {"once": 1, "twice": 2}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


class Shown(Provider):
    """Answers, or fails as the line says; ``failing`` maps targets to a kind and how often."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failing: dict[str, list[Any]] = {}
        self.called: list[str] = []

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.called.append(str(target))
        kind, left = self.failing.get(str(target), (None, 0))
        if left:
            self.failing[str(target)][1] -= 1
            if kind == "silent":
                await asyncio.Event().wait()
            raise FAILURES[kind]
        yield TextDelta("hello")
        yield Finished()


@dataclass
class Line:
    """One line of an example, read."""

    model: str
    outcome: str
    count: int = 1
    key: str = KEY
    failing: dict[str, list[Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "hi"
    fields: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, line: str) -> Line:
        request, outcome = line.split(" → ")
        model, *words = [part.strip() for part in request.split(",")]
        read = cls(model, outcome.strip())
        for word in words:
            read._heed(word)
        return read

    def _heed(self, word: str) -> None:
        first, _, rest = word.partition(" ")
        if "/" in first:
            kind, _, times = rest.partition(" ")
            assert kind in {*FAILURES, "silent"}, word
            self.failing[first] = [kind, TIMES[times] if times else 1000]
        elif first == "header":
            name, _, value = rest.partition(": ")
            self.headers[name] = value
        elif first == "session":
            self.headers["x-session-id"] = rest
        elif rest == "times":
            self.count = int(first)
        elif rest == "tokens":
            self.text = "word" * int(first)
        elif word == "key research":
            self.key = RESEARCH
        elif word == "tools":
            self.fields["tools"] = TOOLS
        else:
            assert word == "images", word
            self.fields["images"] = True

    def body(self) -> dict[str, Any]:
        content: Any = self.text
        fields = dict(self.fields)
        if fields.pop("images", False):
            content = [{"type": "text", "text": self.text}, PICTURE]
        return {"model": self.model, "messages": [{"role": "user", "content": content}], **fields}


def examples(page: str) -> list[tuple[str, str]]:
    path = ROOT / page
    return EXAMPLE.findall(path.read_text()) if path.exists() else []


CASES = [pytest.param(*pair, id=f"{page}-{number}") for page in PAGES for number, pair in enumerate(examples(page), 1)]


def gateway_of(configuration: str, providers: list[Shown]) -> Gateway:
    given: dict[str, Any] = tomllib.loads(configuration)
    keys = {"keys": {"test": KEY, "research": RESEARCH}}
    if "breaker" in given:
        given["breaker"]["enabled"] = True
    return make_gateway(plugin_of(providers=providers), **{"static_keys": keys, **given})


@pytest.mark.parametrize(("configuration", "lines"), CASES)
async def test_example(configuration: str, lines: str) -> None:
    """Each request goes where the page says, in as many attempts."""
    providers = [Shown(name) for name in ("gigachat", "openai", "local")]
    async with gateway_client(gateway_of(configuration, providers)) as client:
        for text in lines.splitlines():
            line = Line.read(text)
            for provider in providers:
                provider.failing, provider.called = dict(line.failing), []
            answers = await asked(client, line)
            await check(line.outcome, answers, providers)


async def asked(client: httpx.AsyncClient, line: Line) -> list[httpx.Response]:
    headers = {**line.headers, "authorization": f"Bearer {line.key}"}
    return [await client.post("/v1/chat/completions", json=line.body(), headers=headers) for _ in range(line.count)]


async def check(outcome: str, answers: list[httpx.Response], providers: list[Shown]) -> None:
    if outcome == "always the same":
        assert len({answer.headers["x-gatewaykit-target"] for answer in answers}) == 1
    elif "%" in outcome:
        found = Counter(answer.headers["x-gatewaykit-target"] for answer in answers)
        for share in outcome.split(", "):
            target, percent, _ = share.split()
            assert found[target] * 100 / len(answers) == pytest.approx(float(percent), abs=8)
    elif outcome[:3].isdigit():
        status, code = outcome.split()
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(int(status), code)]
    else:
        target, *rest = outcome.split(", ")
        attempts = next((words.split()[0] for words in rest if words.endswith("attempts")), "1")
        for answer in answers:
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-gatewaykit-target"] == target
            assert answer.headers.get("x-gatewaykit-attempts", "1") == attempts
        for copied in (words.removeprefix("copied to ") for words in rest if words.startswith("copied to ")):
            await until(lambda copied=copied: any(copied in provider.called for provider in providers))


def test_both_pages_show_the_same() -> None:
    """The Russian page has the same examples, in the same order."""
    english, russian = (examples(page) for page in PAGES)
    assert len(english) >= 10
    assert english == russian
