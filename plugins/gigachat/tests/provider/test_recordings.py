"""What the real service once said, replayed to the provider by a small server of our own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from gatewaykit.errors import ModelNotFound
from gatewaykit.testing import one_by_one
from gatewaykit.types import Finished, Message, ResponseFormat, Started, Target, TextDelta, Usage
from gatewaykit_gigachat.token import read_token

RECORDINGS = Path(__file__).parents[1] / "recordings" / "cassettes"


@cache
def cassette(name: str) -> list[Any]:
    """The recorded exchanges of a cassette; the first is with the token endpoint."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((RECORDINGS / f"{name}.yaml").read_text(), loader)["interactions"]


class Replay:
    """Answers every request of a path with the recorded answer, in chunks, the last of them a moment later."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.serving: list[asyncio.Task[None] | None] = []
        self.server: asyncio.Server | None = None

    def load(self, name: str) -> Any:
        """Answer as this cassette does; gives the recorded request."""
        for exchange in cassette(name):
            self.answers["/" + exchange["request"]["uri"].split("/", 3)[3]] = exchange["response"]
        return msgspec.json.decode(exchange["request"]["body"])

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/api"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self.answer(head.decode(), reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split()[1]
        self.requests.append((path, headers, body))
        answer = self.answers[path]
        kept = ("content-type", "x-request-id", "x-session-id", "server")
        told = [f"{key}: {values[0]}" for key, values in answer["headers"].items() if key.lower() in kept]
        status = answer["status"]
        start = [f"HTTP/1.1 {status['code']} {status['message']}", *told, "transfer-encoding: chunked", "", ""]
        content = answer["body"]["string"].encode()
        writer.write("\r\n".join(start).encode() + b"%x\r\n%s\r\n" % (len(content), content))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")


@pytest.fixture
async def replay() -> AsyncIterator[Replay]:
    """The server, running."""
    made = Replay()
    made.server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made
    made.server.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*made.serving)


@pytest.fixture
async def provider(bench: Any, replay: Replay) -> AsyncIterator[Any]:
    """A provider that talks to the recordings as to the older public host."""
    made = bench.provider(base_url=f"{replay.url}/v1", auth_url=f"{replay.url}/v2/oauth")
    yield made
    await made.aclose()


def user(recorded: dict[str, Any]) -> tuple[Message, ...]:
    """The recorded messages, all of which are a user's."""
    return tuple(Message("user", message["content"]) for message in recorded["messages"])


def usage(document: dict[str, Any]) -> Usage:
    """The recorded usage in the gateway's words."""
    told = document["usage"]
    return Usage(told["prompt_tokens"], told["completion_tokens"], told["precached_prompt_tokens"])


def stream_of(name: str) -> list[str]:
    """The recorded events of a stream, without the last, which is no JSON."""
    body = cassette(name)[1]["response"]["body"]["string"]
    return [part.removeprefix("data: ") for part in body.split("\n\n") if part and "[DONE]" not in part]


@pytest.mark.parametrize("name", ["test_chat_simple", "test_achat_simple"])
async def test_a_recorded_answer(bench: Any, provider: Any, replay: Replay, name: str) -> None:
    """The recorded chat request is what the provider sends, and the recorded answer is what it gives."""
    recorded = replay.load(name)
    answer = msgspec.json.decode(cassette(name)[1]["response"]["body"]["string"])
    reply = await provider.complete(bench.call(messages=user(recorded)), Target("gigachat", recorded["model"]))
    assert (reply.model, reply.created) == (answer["model"], answer["created"])
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Hello.", "stop")
    assert reply.usage == usage(answer)
    sent = msgspec.json.decode(replay.requests[-1][2])
    assert sent == {**recorded, "stream": False}


@pytest.mark.parametrize("name", ["test_stream_simple", "test_astream_simple"])
async def test_a_recorded_stream(bench: Any, provider: Any, replay: Replay, name: str) -> None:
    """The recorded stream gives its pieces one by one, one finish and the usage."""
    recorded = replay.load(name)
    call = bench.call(messages=user(recorded), stream=True)
    events = [event async for event in one_by_one(provider.stream(call, Target("gigachat", recorded["model"])))]
    kinds = [type(event) for event in events]
    assert kinds == [Started, *[TextDelta] * (len(events) - 3), Finished, Usage]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    said = [msgspec.json.decode(data) for data in stream_of(name)]
    assert text == "".join(document["choices"][0]["delta"]["content"] for document in said)
    assert events[-1] == usage(said[-1])
    path, headers, body = replay.requests[-1]
    assert path.endswith("/v1/chat/completions")
    assert (headers["accept"], headers["cache-control"]) == ("text/event-stream", "no-store")
    assert msgspec.json.decode(body) == recorded


@pytest.mark.parametrize("name", ["test_chat_parse_json_schema", "test_achat_parse_json_schema"])
async def test_a_recorded_json_document(bench: Any, provider: Any, replay: Replay, name: str) -> None:
    """A request for a JSON document has the recorded form, and the document is the answer's text."""
    recorded = replay.load(name)
    form = recorded["response_format"]
    wanted = ResponseFormat("json_schema", "out", form["schema"], strict=True)
    call = bench.call(messages=user(recorded), response_format=wanted)
    reply = await provider.complete(call, Target("gigachat", recorded["model"]))
    assert msgspec.json.decode(reply.choices[0].text) == {"answer": "ok", "n": 3}
    sent = msgspec.json.decode(replay.requests[-1][2])["response_format"]
    assert sent.keys() == form.keys()
    assert sent["schema"]["properties"].keys() == form["schema"]["properties"].keys()


@pytest.mark.parametrize("name", ["test_chat_model_not_found", "test_achat_model_not_found"])
async def test_a_recorded_refusal(bench: Any, provider: Any, replay: Replay, name: str) -> None:
    """The recorded 404 is ModelNotFound, streamed or not, and is not tried again."""
    recorded = replay.load(name)
    target = Target("gigachat", recorded["model"])
    with pytest.raises(ModelNotFound):
        await provider.complete(bench.call(messages=user(recorded)), target)
    with pytest.raises(ModelNotFound):
        await anext(provider.stream(bench.call(messages=user(recorded), stream=True), target))
    assert len([path for path, _, _ in replay.requests if path.endswith("completions")]) == 2


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recorded_token_is_read(path: Path) -> None:
    """All recorded token answers, of both shapes, give a token that ends in the year 2100."""
    body = cassette(path.stem)[0]["response"]["body"]["string"].encode()
    assert time.gmtime(read_token(body).expires).tm_year == 2100


async def test_one_connection_serves_calls_in_turn(bench: Any, provider: Any, replay: Replay) -> None:
    """Answers in one piece, streams, whose last bytes come late, and refusals all leave their connection in order."""
    for name in ("test_chat_simple", "test_stream_simple", "test_chat_model_not_found") * 2:
        recorded = replay.load(name)
        call = bench.call(messages=user(recorded), stream=bool(recorded.get("stream")))
        target = Target("gigachat", recorded["model"])
        if call.chat.stream:
            assert [event async for event in provider.stream(call, target)]
        elif "not_found" in name:
            with pytest.raises(ModelNotFound):
                await provider.complete(call, target)
        else:
            await provider.complete(call, target)
    assert len(replay.serving) == 2, "one for the token, one for the calls"
