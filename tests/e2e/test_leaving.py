"""Clients leave when they like: what was begun for them ends, and is on record."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import openai
import pytest

from .raw import Connection, chat, connected, request
from .talking import awaiting, text_of, user
from .world import GIGACHAT, GPT, KEY, PROMPT, World, eventually, unharmed

WAITS = {GIGACHAT: "[[fault: {}]]", GPT: "[[upstream: {}]]"}
BEFORE = [(GIGACHAT, "delay=30"), (GIGACHAT, "stall=0"), (GPT, "silent"), (GPT, "silent-after-head")]
MIDWAY = [(GIGACHAT, "stall=3"), (GPT, "stall-midway")]


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    """No test leaves a task or a call behind."""
    with unharmed(world):
        yield


def close(connection: Connection) -> None:
    """Leave politely."""
    connection.socket.close()


def reset(connection: Connection) -> None:
    """Leave with a bang."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


def busy(world: World) -> bool:
    """Whether a call waits for its provider."""
    return world.sandbox.stats.parallel + world.upstream.held > 0


def asked(model: str, fault: str, *, stream: bool) -> bytes:
    """A request that its provider does not finish."""
    text = f"say 20 words {PROMPT} {WAITS[model].format(fault)}"
    return request("POST", "/v1/chat/completions", chat(text, model, stream=stream), "X-Request-ID: leaving")


@pytest.fixture
def fresh_record(world: World) -> Callable[[], dict]:
    """The record of the request ``leaving`` that this test is about to make."""
    before = len(world.records())

    def record() -> dict:
        def found() -> list[dict]:
            return [each for each in world.records()[before:] if each["request_id"] == "leaving"]

        eventually(found)
        (only,) = found()
        return only

    return record


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
either_exit = pytest.mark.parametrize("leave", [close, reset])


@both_ways
@either_exit
@pytest.mark.parametrize(("model", "fault"), BEFORE)
def test_before_the_answer(
    world: World, fresh_record: Callable[[], dict], model: str, fault: str, leave: Callable, stream: bool
) -> None:
    """The provider's work is cut short when the client leaves before its answer, and the record says 499."""
    with connected(world) as connection:
        connection.send(asked(model, fault, stream=stream))
        eventually(lambda: busy(world))
        leave(connection)
    eventually(lambda: not busy(world))
    record = fresh_record()
    assert (record["status"], record["outcome"]) == (499, "client_gone")


@either_exit
@pytest.mark.parametrize(("model", "fault"), MIDWAY)
def test_in_mid_stream(world: World, fresh_record: Callable[[], dict], model: str, fault: str, leave: Callable) -> None:
    """In mid-stream too; what was generated until then is accounted, as an estimate."""
    with connected(world) as connection:
        connection.send(asked(model, fault, stream=True))
        received = b""
        while b"word4" not in received:
            received += connection.receive()
        leave(connection)
    eventually(lambda: not busy(world))
    record = fresh_record()
    assert (record["status"], record["outcome"]) == (200, "client_gone")
    assert record["output_tokens"] > 0
    assert record["estimated"]


@either_exit
@pytest.mark.parametrize("part", [0.0, 0.5])
def test_while_sending_the_body(world: World, fresh_record: Callable[[], dict], part: float, leave: Callable) -> None:
    """Half a request is no request: no provider hears of it."""
    calls = world.sandbox.stats.requests["/chat/completions"], len(world.upstream.requests)
    whole = asked(GPT, "silent", stream=False)
    head = whole.index(b"\r\n\r\n") + 4
    with connected(world) as connection:
        connection.send(whole[: head + int(part * (len(whole) - head))])
        eventually(lambda: world.gateway.receiving)
        leave(connection)
    assert fresh_record()["outcome"] == "client_gone"
    assert (world.sandbox.stats.requests["/chat/completions"], len(world.upstream.requests)) == calls


def test_in_a_long_stream(world: World, fresh_record: Callable[[], dict]) -> None:
    """A client that leaves a stream which it did not read fast enough stops it too."""
    body = chat("say 10000 words [[fault: slow=0.0001]]", GIGACHAT, stream=True)
    with connected(world) as connection:
        connection.send(request("POST", "/v1/chat/completions", body, "X-Request-ID: leaving"))
        assert connection.receive()
        eventually(lambda: world.sandbox.stats.live_streams == 1)
    eventually(lambda: world.sandbox.stats.live_streams == 0)
    assert fresh_record()["outcome"] == "client_gone"


def test_many_at_once(world: World) -> None:
    """Fifty clients that leave at the same moment leave nothing behind."""
    whole = request(body=chat(f"say 20 words {PROMPT} [[upstream: stall-midway]]", GPT, stream=True))
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(world)) for _ in range(50)]
        for connection in connections:
            connection.send(whole)
        for connection in connections:
            assert connection.receive().startswith(b"HTTP/1.1 200 ")
        eventually(lambda: world.upstream.held == 50)
        for number, connection in enumerate(connections):
            (close, reset)[number % 2](connection)
        eventually(lambda: world.upstream.held == 0)


@pytest.mark.parametrize(("model", "fault"), MIDWAY)
async def test_the_sdks_break(world: World, model: str, fault: str) -> None:
    """Leaving the SDK's loop over a stream early ends the provider's stream."""
    chunks = []
    async with awaiting(world.base_url, KEY) as client:
        stream = await client.chat.completions.create(
            model=model, messages=user(f"say 20 words {WAITS[model].format(fault)}"), stream=True
        )
        async for chunk in stream:
            chunks.append(chunk)
            if text_of(chunks):
                break
        await stream.close()
        await asyncio.to_thread(eventually, lambda: not busy(world))


@pytest.mark.parametrize(("model", "fault"), BEFORE)
async def test_the_sdks_own_timeout(world: World, model: str, fault: str) -> None:
    """A client that loses patience raises its own error, and the provider's work is cut short."""
    async with awaiting(world.base_url, KEY, timeout=0.3) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(
                model=model, messages=user(f"say 20 words {PROMPT} {WAITS[model].format(fault)}")
            )
    await asyncio.to_thread(eventually, lambda: not busy(world))
