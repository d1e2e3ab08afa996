"""Every example of the chapter on routing is executed: the configuration as it stands, and the requests below it."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewaykit import (
    BadRequest,
    Call,
    ContentBlocked,
    ContextTooLong,
    Event,
    Finished,
    Gateway,
    GatewayError,
    Model,
    ModelNotFound,
    Provider,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
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
    "rate_limited": ProviderBusy,
    "unpaid": ProviderUnpaid,
    "context_too_long": ContextTooLong,
    "content_blocked": ContentBlocked,
    "auth_failed": ProviderAuthFailed,
    "denied": ProviderDenied,
    "bad_answer": ProviderBadAnswer,
    "no_such_model": ModelNotFound,
    "wrong_request": BadRequest,
}
MANNERS = {"silent", "slow", "stalls", "endless", "rests"}
"""What else providers do: never begin, begin late, begin and fall silent, never end, ask for a minute's rest."""

LISTS = {"openai": ("gpt-5",), "local": ("qwen",)}
SLOW = 0.15
TIMES = {"once": 1, "twice": 2}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


class Shown(Provider):
    """Answers, or fails as the line says; ``failing`` maps targets to a kind and how often. ``last`` is the latest call
    that came. While ``crowd`` is set an answer waits until so many calls have come to all providers.
    """

    def __init__(self, name: str, crowd: Crowd) -> None:
        self.name = name
        self.failing: dict[str, list[Any]] = {}
        self.called: list[str] = []
        self.last: Call | None = None
        self._crowd = crowd

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.called.append(str(target))
        self.last = call
        kind, left = self.failing.get(str(target), (None, 0))
        if left:
            self.failing[str(target)][1] -= 1
            async for event in misbehaving(kind):
                yield event
        await self._crowd.gathered()
        yield TextDelta("hello")
        yield Finished()

    async def models(self) -> Sequence[Model]:
        return [Model(name) for name in LISTS.get(self.name, ())]


async def misbehaving(kind: str) -> AsyncIterator[Event]:
    """What a provider does that fails, or is late."""
    if kind == "slow":
        await asyncio.sleep(SLOW)
        return
    if kind == "rests":
        raise ProviderBusy(retry_after=60)
    if kind not in MANNERS:
        raise FAILURES[kind]
    while kind == "endless":
        yield TextDelta("and ")
        await asyncio.sleep(SLOW / 5)
    if kind == "stalls":
        yield TextDelta("hel")
    await asyncio.Event().wait()


class Crowd:
    """Lets calls wait for one another."""

    def __init__(self) -> None:
        self.expected = self._came = 0
        self._all = asyncio.Event()

    def expects(self, number: int) -> None:
        """So many calls come together; 0 for calls that do not wait."""
        self.expected, self._came = number, 0
        self._all.clear()

    async def gathered(self) -> None:
        """One more has come; returns when all are there."""
        self._came += 1
        if self._came >= self.expected:
            self._all.set()
        await self._all.wait()


@dataclass
class Line:
    """One line of an example, read."""

    model: str
    outcome: str
    count: int = 1
    at_once: bool = False
    streamed: bool = False
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
            assert kind in {*FAILURES, *MANNERS}, word
            self.failing[first] = [kind, TIMES[times] if times else 1000]
        elif first == "header":
            name, _, value = rest.partition(": ")
            self.headers[name] = value
        elif first == "session":
            self.headers["x-session-id"] = rest
        elif rest in {"times", "at once"}:
            self.count, self.at_once = int(first), rest == "at once"
        elif rest.startswith("= "):
            self.fields[first] = float(rest[2:])
        elif rest == "tokens":
            self.text = "word" * int(first)
        elif word == "key research":
            self.key = RESEARCH
        elif word == "tools":
            self.fields["tools"] = TOOLS
        elif word == "streamed":
            self.streamed = self.fields["stream"] = True
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
    given["static_keys"] = {"keys": {"test": KEY, "research": RESEARCH}, **given.get("static_keys", {})}
    if "breaker" in given:
        given["breaker"]["enabled"] = True
    return make_gateway(plugin_of(providers=providers), **given)


@pytest.mark.parametrize(("configuration", "lines"), CASES)
async def test_example(configuration: str, lines: str) -> None:
    """Each request goes where the page says, in as many attempts."""
    crowd = Crowd()
    providers = [Shown(name, crowd) for name in ("gigachat", "openai", "local")]
    gateway = gateway_of(configuration, providers)
    router: Any = gateway.routers["models"]
    async with gateway_client(gateway) as client:
        await until(lambda: all(router.listing.owners(name) for names in LISTS.values() for name in names))
        for text in lines.splitlines():
            line = Line.read(text)
            for provider in providers:
                provider.failing, provider.called = dict(line.failing), []
            crowd.expects(line.count if line.at_once else 0)
            await check(line.outcome, await asked(client, line), providers)


async def asked(client: httpx.AsyncClient, line: Line) -> list[httpx.Response]:
    headers = {**line.headers, "authorization": f"Bearer {line.key}"}

    async def one() -> httpx.Response:
        return await client.post("/v1/chat/completions", json=line.body(), headers=headers)

    if line.at_once:
        return list(await asyncio.gather(*(one() for _ in range(line.count))))
    return [await one() for _ in range(line.count)]


async def check(outcome: str, answers: list[httpx.Response], providers: list[Shown]) -> None:
    if outcome == "always the same":
        assert len({answer.headers["x-gatewaykit-target"] for answer in answers}) == 1
    elif "%" in outcome:
        check_shares(outcome, answers)
    elif outcome[:3].isdigit():
        (status, code), *rest = outcome.partition(", ")[0].split(), *outcome.split(", ")[1:]
        assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(int(status), code)]
        for name, _, value in (words.partition(": ") for words in rest):
            assert answers[0].headers[name] == value
    else:
        target, *rest = outcome.split(", ")
        attempts = next((words.split()[0] for words in rest if words.endswith("attempts")), "1")
        for answer in answers:
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-gatewaykit-target"] == target
            assert answer.headers.get("x-gatewaykit-attempts", "1") == attempts
        for words in rest:
            await check_further(words, target, answers[-1], providers)


def check_shares(outcome: str, answers: list[httpx.Response]) -> None:
    """``TARGET 75 %, TARGET 25 %``."""
    found = Counter(answer.headers["x-gatewaykit-target"] for answer in answers)
    for share in outcome.split(", "):
        target, percent, _ = share.split()
        assert found[target] * 100 / len(answers) == pytest.approx(float(percent), abs=8)


async def check_further(words: str, target: str, answer: httpx.Response, providers: list[Shown]) -> None:
    """What else is said of an answer by ``target``: who got a copy, what it was asked with, how its stream ends."""
    first, _, rest = words.partition(" ")
    if words.startswith("copied to "):
        await until(lambda: any(rest.removeprefix("to ") in provider.called for provider in providers))
    elif first == "with":
        name, value = rest.split(" = ")
        call = next(provider.last for provider in providers if target in provider.called)
        assert call is not None
        assert str(getattr(call.chat, name)) == value
    elif first == "then":
        assert f'"code":"{rest}"' in answer.text.strip().split("\n\n")[-1]
    else:
        assert words.endswith("attempts"), words


def test_both_pages_show_the_same() -> None:
    """The Russian page has the same examples, in the same order."""
    english, russian = (examples(page) for page in PAGES)
    assert len(english) >= 19
    assert english == russian
