"""The cache before a scripted provider, over sockets, in memory and in Redis."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit import Finished, Gateway, Observer, Raw, Started, TextDelta, ToolCallDelta, Usage
from gatewaykit.builtin.cache.cache import HEADER, Cache
from gatewaykit.builtin.cache.control import read_control
from gatewaykit.builtin.cache.settings import CacheSettings
from gatewaykit.builtin.cache.stored import Recording, read
from gatewaykit.builtin.cache.stores import MemoryStore, Store
from gatewaykit.errors import ConfigError, ProviderUnavailable
from gatewaykit.testing import (
    FakeProvider,
    Upstream,
    UpstreamAnswer,
    UpstreamRequest,
    gateway_client,
    make_gateway,
    plugin_of,
    serve,
    until,
)
from gatewaykit.testing.servers import RedisServer
from gatewaykit.types import EmbeddingList, ReasoningDelta, RefusalDelta

KEYS = {"one": "gk_test_one_0123456789abcdef", "two": "gk_test_two_0123456789abcdef"}
_numbers = count()
Config = dict[str, Any]


class Records(Observer):
    """Keeps what is left of each call."""

    name = "records"

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def record(self, record: Any) -> None:
        self.kept.append(record)


class World:
    """A gateway with a cache, and what a test asks of it."""

    def __init__(self, http: httpx.AsyncClient, fake: FakeProvider, records: Records) -> None:
        self.http = http
        self.fake = fake
        self.records = records

    async def ask(self, key: str = "one", *, control: str = "", text: str = "hi", **fields: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEYS[key]}"} | ({"Cache-Control": control} if control else {})
        headers |= {"X-Session-ID": f"s{next(_numbers)}"}
        body = {"model": "fake/m", "messages": [{"role": "user", "content": text}], **fields}
        return await self.http.post("/v1/chat/completions", json=body, headers=headers)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Config:
    """The sections that choose where answers are kept."""
    if request.param == "memory":
        return {}
    server: RedisServer = request.getfixturevalue("redis_store")
    return {"redis": {"url": server.url, "prefix": f"cache-{os.getpid()}-{next(_numbers)}", "timeout": 5.0}}


@asynccontextmanager
async def world_of(*script: Any, cache: Config | None = None, **config: Any) -> AsyncIterator[World]:
    fake, records = FakeProvider(*script), Records()
    gateway = make_gateway(
        plugin_of(providers=[fake], observers=[records]),
        cache={"enabled": True, **(cache or {})},
        static_keys={"keys": KEYS},
        **config,
    )
    async with serve(gateway) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        yield World(http, fake, records)


async def hit(world: World, ask: Callable[[], Any]) -> httpx.Response:
    """The first answer that is a hit: what is kept elsewhere is kept a moment later."""
    for _ in range(200):
        answer: httpx.Response = await ask()
        if answer.headers.get("x-gatewaykit-cache") == "hit":
            return answer
    raise AssertionError("nothing was kept")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hit_is_the_same_answer(store: Config, stream: bool) -> None:
    """The second answer is the first, a stream as a stream; header and record tell, and nobody was called."""
    script = (Started("m", "id-1", 7), TextDelta("Привет"), TextDelta("!"), Finished("stop"), Usage(3, 2))
    options: dict[str, Any] = {"stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
    async with world_of(*script, **store) as world:
        first = await world.ask(**options)
        assert first.headers["x-gatewaykit-cache"] == "miss"
        again = await hit(world, lambda: world.ask(**options))
        opened = world.fake.opened
        third = await world.ask(**options)
        assert (again.content, third.content) == (first.content, first.content)
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["x-gatewaykit-target"] == "cache/fake/m"
        assert int(again.headers["age"]) >= 0
        assert world.fake.opened == opened
        await until(lambda: len(world.records.kept) >= 3)
        record = world.records.kept[-1]
        assert (str(record.target), record.outcome, record.usage.input_tokens) == ("cache/fake/m", "done", 3)


async def test_tenants_share_nothing(store: Config) -> None:
    """The same request of another key is a miss."""
    async with world_of(**store) as world:
        await world.ask("one")
        await hit(world, lambda: world.ask("one"))
        assert (await world.ask("two")).headers["x-gatewaykit-cache"] == "miss"


@pytest.mark.parametrize(
    "other",
    [{"text": "ho"}, {"temperature": 0.5}, {"stream": True}, {"user": "u"}, {"x_unknown": 1}, {"max_tokens": 5}],
)
async def test_any_difference_is_a_miss(other: Config) -> None:
    """Every field counts, those too that the gateway has no word for."""
    async with world_of() as world:
        await world.ask()
        assert (await world.ask(**other)).headers["x-gatewaykit-cache"] == "miss"
        assert (await world.ask()).headers["x-gatewaykit-cache"] == "hit"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_passes_unread_counts_as_well(stream: bool) -> None:
    """A member of a message that the gateway has no word for reaches the upstream, so the answer may be another."""
    async with passing_world("stop") as ask:
        message: Config = {"role": "user", "content": "hi"}
        assert [await ask([message], stream) for _ in range(2)] == ["miss", "hit"]
        assert await ask([{**message, "prefix": True}], stream) == "miss"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_filter_cut_and_passes_unread_is_not_kept(stream: bool) -> None:
    """The upstream's own bytes say so; a text that speaks of it is kept."""
    async with passing_world("content_filter") as ask:
        assert [await ask([{"role": "user", "content": "hi"}], stream) for _ in range(2)] == ["miss", "miss"]
    async with passing_world("stop") as ask:
        message = {"role": "user", "content": 'say "content_filter"'}
        assert [await ask([message], stream) for _ in range(2)] == ["miss", "hit"]


@asynccontextmanager
async def passing_world(reason: str) -> AsyncIterator[Callable[[list[Config], bool], Any]]:
    """Before an upstream of OpenAI's format that says what it was told, and ends for ``reason``: what asks there, and
    tells whether it was a hit.
    """

    def answer(request: UpstreamRequest) -> Any:
        body = request.json()
        said = {"role": "assistant", "content": body["messages"][-1]["content"]}
        choice = {"index": 0, "delta" if body.get("stream") else "message": said, "finish_reason": reason}
        document = {"id": "1", "object": "chat.completion", "choices": [choice]}
        of = UpstreamAnswer.of_events([document]) if body.get("stream") else UpstreamAnswer.of_json(document)
        return of.script()

    with closing(Upstream(answer)) as upstream:
        gateway = make_gateway(
            cache={"enabled": True}, openai={"upstreams": {"up": {"base_url": upstream.url, "models": ["m"]}}}
        )
        async with upstream.serving(), gateway_client(gateway) as client:

            async def ask(messages: list[Config], stream: bool) -> str:
                body = {"model": "up/m", "messages": messages, "stream": stream}
                answer = await client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 200
                return str(answer.headers["x-gatewaykit-cache"])

            yield ask


async def test_parameters_of_targets_count() -> None:
    """A rule may lead the same request to the same target with other parameters."""

    def asked_with(temperature: float) -> Config:
        return {"targets": [{"to": "fake/m", "parameters": {"temperature": temperature}}]}

    router = {
        "models": {"calm": asked_with(0.1), "wild": asked_with(1.9)},
        "rules": [{"to": "wild", "headers": {"x-wild": "*"}}],
    }
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]), cache={"enabled": True}, router=router)
    body = {"model": "calm", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway_client(gateway) as client:
        found = [
            (await client.post("/v1/chat/completions", json=body, headers=headers)).headers["x-gatewaykit-cache"]
            for headers in ({}, {"x-wild": "1"}, {}, {"x-wild": "1"})
        ]
    assert found == ["miss", "miss", "hit", "hit"]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_written_down_is_answered_all_the_same(stream: bool) -> None:
    """Numbers of an upstream may be larger than those of the store: such an answer passes, and is not kept."""
    async with world_of(Started("m", "id", 10**30), TextDelta("hello"), Finished("stop")) as world:
        answers = [await world.ask(stream=stream) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all("hello" in answer.text and "error" not in answer.text for answer in answers)
    assert [answer.headers["x-gatewaykit-cache"] for answer in answers] == ["miss", "miss"]


async def test_cache_control(store: Config) -> None:
    """no-cache asks anew, no-store keeps nothing, max-age takes nothing older, only-if-cached asks nobody."""
    async with world_of(**store) as world:
        nothing = await world.ask(control="only-if-cached")
        assert (nothing.status_code, nothing.json()["error"]["code"]) == (504, "not_cached")
        assert (await world.ask(control="no-store")).headers["x-gatewaykit-cache"] == "miss"
        assert (await world.ask(control="only-if-cached")).status_code == 504
        assert world.fake.opened == 1
        await world.ask()
        await hit(world, world.ask)
        assert (await world.ask(control="only-if-cached, max-age=60")).status_code == 200
        opened = world.fake.opened
        assert (await world.ask(control="no-cache")).headers["x-gatewaykit-cache"] == "miss"
        assert (await world.ask(control='max-age="0"')).headers["x-gatewaykit-cache"] == "miss"
        assert world.fake.opened == opened + 2


@pytest.mark.parametrize(
    "script",
    [
        (TextDelta("a"), ProviderUnavailable()),
        (TextDelta("a"), Finished("content_filter")),
        (TextDelta("a" * 400), Finished("stop")),
        (TextDelta("a"),),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_only_whole_answers_are_kept(script: tuple[Any, ...], stream: bool) -> None:
    """What broke off, was cut by a filter, is too large, or never finished, is asked for again."""
    async with world_of(*script, cache={"max_entry_bytes": 300}) as world:
        for number in range(1, 3):
            await world.ask(stream=stream)
            assert world.fake.opened == number


async def test_time_and_room_end() -> None:
    """An entry is forgotten when its time is over, and the least used one when there is no room."""
    now = [0.0]
    kept = MemoryStore(10.0, 700, lambda: now[0])
    await kept.put("a", b"1234567890")
    await kept.put("b", b"1234567890")
    assert await kept.get("a") == b"1234567890"
    await kept.put("c", b"1234567890")
    assert [await kept.get(key) is not None for key in "abc"] == [True, False, True]
    await kept.put("c", b"1")
    assert await kept.get("c") == b"1"
    now[0] = 10.0
    assert [await kept.get(key) for key in "abc"] == [None, None, None]
    assert vars(kept)["_size"] == 0


async def test_small_answers_take_no_more_room_than_they_may() -> None:
    """Entries cost memory of their own: with short answers it is most of it."""
    kept = MemoryStore(300.0, 1_000_000)
    tracemalloc.start()
    try:
        for number in range(10_000):
            await kept.put(f"{number:064}", bytes(100))
        assert tracemalloc.get_traced_memory()[0] < 1_200_000
    finally:
        tracemalloc.stop()


async def test_models_by_glob_and_lists_of_models() -> None:
    """Other models, and the list of models, pass by the cache."""
    async with world_of(cache={"models": ["other*"]}) as world:
        assert "x-gatewaykit-cache" not in (await world.ask()).headers
        listed = await world.http.get("/v1/models", headers={"Authorization": f"Bearer {KEYS['one']}"})
        assert listed.status_code == 200


async def test_redis_that_is_away_is_an_empty_cache() -> None:
    """Every call is a miss, and answered."""
    async with world_of(redis={"url": "redis://127.0.0.1:1/0"}) as world:
        answers = [await world.ask() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.headers["x-gatewaykit-cache"] for answer in answers} == {"miss"}


async def test_an_event_loop_waits_for_its_own_answers_alone() -> None:
    """A gateway that runs in two of them stops in one while the other is still writing."""
    written, cache = threading.Event(), Cache(CacheSettings(), _Slow(threading.Event()))
    store: Any = cache._store

    async def elsewhere() -> None:
        async with cache.lifespan():
            await cache._keep("key", b"value")
        written.set()

    async with cache.lifespan():
        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await until(lambda: store.asked)
    assert not written.is_set()
    store.gate.set()
    await asyncio.to_thread(thread.join)
    assert written.is_set()


class _Slow(Store):
    """Writes when the gate opens."""

    instant = False

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.asked = 0

    async def get(self, key: str) -> bytes | None:
        return None

    async def put(self, key: str, value: bytes) -> None:
        self.asked += 1
        await asyncio.to_thread(self.gate.wait)


async def test_hits_cost_nothing(tmp_path: Any) -> None:
    """A hit counts as a request, and neither as tokens nor as money."""
    async with world_of(
        Started("m"),
        TextDelta("a"),
        Finished("stop"),
        Usage(30, 20),
        limits={"each_key": {"tpm": 80, "rpm": 100}},
    ) as world:
        answers = [await world.ask(max_tokens=1) for _ in range(4)]
    assert [answer.headers["x-gatewaykit-cache"] for answer in answers[:2]] == ["miss", "hit"]
    assert [answer.status_code for answer in answers] == [200] * 4
    remaining = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
    assert remaining == [99, 98, 97, 96]


def test_off_by_default_and_faults() -> None:
    """Without ``enabled`` there is no cache at all; without Redis its store is a fault."""
    assert "cache" not in repr(make_gateway(plugin_of(providers=[FakeProvider()]))._assembly.parts.around)
    with pytest.raises(ConfigError, match=r"redis\.url"):
        make_gateway(plugin_of(providers=[FakeProvider()]), cache={"enabled": True, "store": "redis"})
    with pytest.raises(ConfigError, match="called 'cache'"):
        make_gateway(plugin_of(providers=[FakeProvider(name="cache")]), cache={"enabled": True})


TEXTS = st.text(max_size=20)
EVENTS = st.one_of(
    st.builds(TextDelta, TEXTS, st.integers(0, 3), st.none() | st.dictionaries(TEXTS, st.integers(0, 9), max_size=2)),
    st.builds(ReasoningDelta, TEXTS),
    st.builds(RefusalDelta, TEXTS),
    st.builds(ToolCallDelta, st.integers(0, 5), TEXTS, TEXTS, TEXTS),
    st.builds(Raw, st.binary(max_size=20), st.integers(0, 99)),
    st.builds(Usage, st.integers(0, 2**40), st.integers(0, 2**40)),
    st.builds(Started, TEXTS, TEXTS, st.integers(0, 2**40), st.lists(TEXTS, max_size=2).map(tuple)),
)


@given(st.lists(EVENTS, max_size=10))
def test_what_is_kept_comes_back(events: list[Any]) -> None:
    """Any events are replayed as they were, in their order."""
    events = [*events, EmbeddingList(((1.5, 2.0),)), Finished("stop")]
    recording = Recording(10**6)
    for event in events:
        recording.take(event)
    data = recording.whole()
    assert data is not None
    answer = read(data)
    assert answer is not None
    back: list[Any] = list(answer.replayed())
    assert [type(event) for event in back] == [type(event) for event in events]
    assert [_plain(event) for event in back] == [_plain(event) for event in events]


def _plain(event: Any) -> Any:
    if isinstance(event, EmbeddingList):
        return [list(vector) for vector in event.vectors]
    return [
        list(value) if isinstance(value, tuple) else value for value in (getattr(event, n) for n in event.__slots__)
    ]


@given(st.binary(max_size=60))
def test_foreign_bytes_are_no_answer(data: bytes) -> None:
    """What is not an entry of this version is a miss."""
    answer = read(data)
    assert answer is None or answer.events is not None


@given(st.text(max_size=40))
def test_any_header_is_read(header: str) -> None:
    """No header breaks the reader."""
    assert read_control(header).max_age >= 0


@pytest.mark.parametrize("page", ["docs/cache.md", "docs/ru/cache.md"])
def test_the_configuration_of_the_page_loads(page: str, tmp_path: Path) -> None:
    """What the page shows switches the cache on, and its headers are those that are sent."""
    text = (Path(__file__).resolve().parents[2] / page).read_text("utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "gatewaykit.toml").write_text(toml, "utf-8")
    settings = Gateway(tmp_path / "gatewaykit.toml", environ={}).settings.get(CacheSettings)
    assert (settings.enabled, settings.ttl) == (True, 600)
    assert f"{HEADER}: hit" in text
