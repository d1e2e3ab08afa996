"""A gateway starts once and stops once in each event loop, whoever asks for it and however often."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx
import pytest
import uvloop

from gatewaykit import CallRecord, ConfigError, Gateway, Observer, hookimpl
from gatewaykit.testing import KEY, FakeProvider, make_gateway, plugin_of, until

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Lives:
    """A plugin with a lifespan that notes what happens; ``fails`` breaks it at its ``"enter"`` or ``"leave"``."""

    name = "lives"

    def __init__(self, fails: str = "", gate: asyncio.Event | None = None) -> None:
        self.fails = fails
        self.gate = gate
        self.seen: list[str] = []

    @hookimpl
    def gateway_lifespan(self) -> Any:
        if self.fails == "hook":
            raise RuntimeError("no lifespan today")
        return [self.live()]

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        self.seen.append("enter")
        if self.gate is not None:
            await self.gate.wait()
        if self.fails == "enter":
            raise RuntimeError("not today")
        try:
            yield
        finally:
            self.seen.append("leave")
            if self.fails == "leave":
                raise RuntimeError("stuck")


class Seen(Observer):
    name = "seen"

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.records.append(record)


def in_process(gateway: Gateway) -> httpx.AsyncClient:
    """A client that calls the application in the running event loop and never runs its lifespan."""
    transport = httpx.ASGITransport(gateway, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers={"Authorization": f"Bearer {KEY}"})


async def ask(gateway: Gateway) -> httpx.Response:
    async with in_process(gateway) as client:
        return await client.post("/v1/chat/completions", json=CHAT)


async def test_lifespans_are_entered_in_order_and_left_in_reverse() -> None:
    """What gateway_lifespan returns comes first, then the objects' own; providers are closed after all of them."""
    seen: list[str] = []

    def living(name: str) -> Any:
        @asynccontextmanager
        async def live() -> AsyncIterator[None]:
            seen.append(f"enter {name}")
            yield
            seen.append(f"leave {name}")

        return live

    provider = FakeProvider()
    provider.lifespan = living("provider")  # type: ignore[attr-defined]
    provider.aclose = lambda: asyncio.sleep(0, seen.append("close"))  # type: ignore[method-assign]

    class Two:
        name = "two"

        @hookimpl
        def gateway_lifespan(self) -> Any:
            return [living("one")(), living("two")()]

    async with make_gateway(plugin_of(providers=[provider]), Two()):
        assert seen == ["enter one", "enter two", "enter provider"]
    assert seen[3:] == ["leave provider", "leave two", "leave one", "close"]


async def test_a_lifespan_is_left_in_the_task_that_entered_it() -> None:
    """Task groups and time limits work in lifespans, although start and stop come from different tasks."""
    left: list[str] = []

    @asynccontextmanager
    async def grouped() -> AsyncIterator[None]:
        async with anyio.create_task_group() as group, asyncio.timeout(60):
            group.start_soon(asyncio.sleep, 0)
            yield
            group.cancel_scope.cancel()
        left.append("whole")

    class Grouped:
        name = "grouped"

        @hookimpl
        def gateway_lifespan(self) -> Any:
            return [grouped()]

    gateway = make_gateway(Grouped())
    await asyncio.create_task(gateway.start())
    await asyncio.create_task(gateway.stop())
    assert left == ["whole"]


async def test_many_starts_are_one() -> None:
    """However many requests come first, the gateway starts once, and stops once."""
    lives, provider = Lives(gate=asyncio.Event()), FakeProvider()
    gateway = make_gateway(lives, plugin_of(providers=[provider]))
    answers = [asyncio.create_task(ask(gateway)) for _ in range(5)]
    await until(lambda: lives.seen)
    assert not gateway.ready
    assert lives.gate is not None
    lives.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*answers)] == [200] * 5
    await gateway.start()
    assert gateway.ready
    await gateway.stop()
    await gateway.stop()
    assert not gateway.ready
    assert lives.seen == ["enter", "leave"]
    assert provider.closings == 1


async def test_a_client_that_leaves_does_not_take_the_start_with_it() -> None:
    """The request that happened to start the gateway may be cancelled; the others wait on."""
    lives = Lives(gate=asyncio.Event())
    gateway = make_gateway(lives, plugin_of(providers=[FakeProvider()]))
    first, second = asyncio.create_task(ask(gateway)), asyncio.create_task(ask(gateway))
    await until(lambda: lives.seen)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert lives.gate is not None
    lives.gate.set()
    assert (await second).status_code == 200
    await gateway.stop()


async def test_a_stop_during_the_start_leaves_what_was_entered() -> None:
    """A host that gives up while the gateway is still starting leaves nothing open."""
    lives, provider = Lives(gate=asyncio.Event()), FakeProvider()
    gateway = make_gateway(lives, plugin_of(providers=[provider]))
    starting = asyncio.create_task(gateway.start())
    await until(lambda: lives.seen)
    stopping = asyncio.create_task(gateway.stop())
    await asyncio.sleep(0)
    assert lives.gate is not None
    lives.gate.set()
    await stopping
    await starting
    assert lives.seen == ["enter", "leave"]
    assert provider.closings == 1
    assert not gateway.ready
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("fails", ["enter", "hook"])
async def test_a_start_that_fails_closes_everything_and_may_be_tried_again(fails: str) -> None:
    """Until it succeeds requests get a 503 in their dialect's shape, and the reason stays in the log."""
    lives, provider = Lives(fails), FakeProvider()
    gateway = make_gateway(plugin_of(providers=[provider]), lives)
    with pytest.raises((RuntimeError, ConfigError)):
        await gateway.start()
    assert provider.closings == 1
    answer = await ask(gateway)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"
    assert "today" not in answer.text
    assert provider.closings == 2
    assert not gateway.ready
    lives.fails = ""
    assert (await ask(gateway)).status_code == 200
    await gateway.stop()
    assert provider.closings == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stop_that_fails_still_closes_the_rest() -> None:
    """The error reaches whoever stopped the gateway; providers are closed all the same."""
    lives, provider = Lives("leave"), FakeProvider()
    gateway = make_gateway(plugin_of(providers=[provider]), lives)
    await gateway.start()
    with pytest.raises(RuntimeError, match="stuck"):
        await gateway.stop()
    assert provider.closings == 1


def test_a_loop_that_ends_without_a_stop_is_cleaned_up() -> None:
    """A host without a lifespan never stops the gateway: the end of its event loop does."""
    lives, provider, seen = Lives(), FakeProvider(), Seen()
    gateway = make_gateway(lives, plugin_of(providers=[provider], observers=[seen]))
    asyncio.run(ask(gateway))  # type: ignore[arg-type]
    assert lives.seen == ["enter", "leave"]
    assert provider.closings == 1
    assert [record.status for record in seen.records] == [200]
    assert not [thread for thread in threading.enumerate() if thread.name == "gatewaykit-observers"]


def test_a_gateway_says_that_it_is_not_ready_where_no_loop_runs() -> None:
    """A plugin may ask while the gateway is put together."""
    asked: list[bool] = []

    class Curious:
        name = "curious"

        @hookimpl
        def gateway_providers(self, gateway: Any) -> None:
            asked.append(gateway.ready)

    assert not make_gateway(Curious()).ready
    assert asked == [False]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_one_gateway_runs_in_one_loop_after_another(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Each loop has its own start and stop, and every record is seen."""
    lives, provider, seen = Lives(), FakeProvider(), Seen()
    gateway = make_gateway(lives, plugin_of(providers=[provider], observers=[seen]))

    async def once() -> int:
        async with gateway:
            return (await ask(gateway)).status_code

    for turn in range(1, 4):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(once()) == 200
        assert lives.seen == ["enter", "leave"] * turn
        assert (provider.closings, len(seen.records)) == (turn, turn)


def test_one_gateway_runs_in_two_loops_at_once() -> None:
    """The loop that stops first takes nothing from the other: not its readiness, not its observers."""
    lives, provider, seen = Lives(), FakeProvider(), Seen()
    gateway = make_gateway(lives, plugin_of(providers=[provider], observers=[seen]))
    both = threading.Barrier(2)
    first_is_over = threading.Event()
    statuses: list[int] = []

    async def run(first: bool) -> None:
        async with gateway:
            await asyncio.to_thread(both.wait, 10)
            statuses.append((await ask(gateway)).status_code)
            if not first:
                assert await asyncio.to_thread(first_is_over.wait, 10)
                assert gateway.ready
                statuses.append((await ask(gateway)).status_code)
                await until(lambda: len(seen.records) == 3)
        if first:
            first_is_over.set()

    threads = [threading.Thread(target=asyncio.run, args=(run(first),)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [200, 200, 200]
    assert lives.seen == ["enter", "enter", "leave", "leave"]


# The ASGI lifespan protocol


async def speak_lifespan(app: Callable[..., Awaitable[None]]) -> tuple[list[dict[str, Any]], list[str]]:
    """What an application answers to startup and shutdown, and what had been noted at each answer."""
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, str]:
        return {"type": next(events)}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    with suppress(StopIteration):
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return answers, [answer["type"].removeprefix("lifespan.") for answer in answers]


async def test_the_server_runs_the_lifespan() -> None:
    """A gateway of its own answers startup when it is ready and shutdown when everything is closed."""
    lives, provider = Lives(), FakeProvider()
    _, answers = await speak_lifespan(make_gateway(lives, plugin_of(providers=[provider])))
    assert answers == ["startup.complete", "shutdown.complete"]
    assert lives.seen == ["enter", "leave"]
    assert provider.closings == 1


@pytest.mark.parametrize(
    ("fails", "answers"),
    [("enter", ["startup.failed"]), ("leave", ["startup.complete", "shutdown.failed"])],
)
async def test_the_server_hears_of_failures(fails: str, answers: list[str]) -> None:
    """A start or stop that fails is told by name of the error, and nothing of its text."""
    messages, types = await speak_lifespan(make_gateway(Lives(fails)))
    assert types == answers
    assert messages[-1]["message"] == "RuntimeError"
