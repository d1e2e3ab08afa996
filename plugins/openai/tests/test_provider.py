"""The provider against a real upstream on a loopback socket."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import aclosing
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewaykit.errors import (
    GatewayError,
    ModelNotFound,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
)
from gatewaykit.folding import fold
from gatewaykit.testing import gateway_client, make_gateway, plugin_of
from gatewaykit.types import (
    AudioPart,
    ChatRequest,
    FilePart,
    Finished,
    ImagePart,
    Message,
    Model,
    NamedTool,
    Raw,
    ResponseFormat,
    Started,
    Target,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    Usage,
)

DONE = b"data: [DONE]\n\n"
COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

ODD_BODIES = [
    b'{"model":"gpt","messages":[],"stream":true}',
    b' {\n\t"stream" : true ,"messages":[{"role":"user","content":"\\u041f\\u0440\\ud83d\\ude00"}],"model":"gpt"}\r\n',
    b'{"temperature":1e0,"top_p":1.0,"seed":-0,"stream":true,"model":"gpt","messages":[],"vendor":{"b":1e3,"a":2}}',
    '{"model":"gpt","stream":true,"messages":[{"content":"Привет é \\u00e9","role":"user"}]}'.encode(),
    b'{"model":"gpt","stream":true,"messages":[],'
    b'"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"model":{}}}}}]}',
]


def chunk(content=None, finish=None, **more) -> bytes:
    delta = {} if content is None else {"content": content}
    document = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "gpt-real",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 7,
    "model": "gpt-real",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": COUNTS,
}
WHOLE = [chunk("H"), chunk("i"), chunk(None, "stop"), DONE]


async def collect(events):
    async with aclosing(events):
        return [event async for event in events]


async def collect_until_error(events):
    """The events before an error, and the error; fails when there is none."""
    found = []
    async with aclosing(events):
        while True:
            try:
                found.append(await anext(events))
            except GatewayError as error:
                return found, error


async def until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)


# pass-through


@pytest.mark.parametrize("body", ODD_BODIES)
async def test_body_reaches_the_upstream_unchanged(body, provider, upstream, make_call, target):
    """The upstream receives the client's bytes: the hashes are the same."""
    upstream.streams(WHOLE)
    await collect(provider.stream(make_call(body), target))
    assert hashlib.sha256(upstream.received[0].body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("body", ODD_BODIES)
async def test_only_the_model_is_replaced(body, provider, upstream, make_call):
    """A target of another name changes the model's value and no other byte."""
    upstream.streams(WHOLE)
    await collect(provider.stream(make_call(body), Target("openai", "other")))
    assert upstream.received[0].body == body.replace(b'"gpt"', b'"other"')


async def test_large_body_reaches_the_upstream(provider, upstream, make_call, target):
    """A body of several megabytes arrives whole."""
    upstream.streams(WHOLE)
    body = b'{"model":"gpt","stream":true,"messages":[{"role":"user","content":"' + b"x" * 5_000_000 + b'"}]}'
    await collect(provider.stream(make_call(body), target))
    assert hashlib.sha256(upstream.received[0].body).digest() == hashlib.sha256(body).digest()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(places=st.lists(st.integers(0, len(b"".join(WHOLE))), max_size=12))
def test_frames_reach_the_client_unchanged(places):
    """However the network cuts the stream, what is passed on is the upstream's frames without the end mark."""
    whole = b"".join(WHOLE)
    cuts = [0, *sorted(places), len(whole)]
    pieces = [whole[start:stop] for start, stop in pairwise(cuts)]

    async def run():
        from gatewaykit_openai.provider import OpenAICompatible
        from gatewaykit_openai.settings import Upstream

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        provider = OpenAICompatible("o", Upstream(base_url=f"http://127.0.0.1:{port}/v1"))
        try:
            return await collect(provider.stream(_call(), Target("o", "gpt")))
        finally:
            await provider.aclose()
            server.close()
            await server.wait_closed()

    events = asyncio.run(run())
    assert b"".join(event.data for event in events) == whole.removesuffix(DONE)


def _call():
    from gatewaykit.types import Call, Incoming, Principal

    request = ChatRequest("gpt", (Message("user", "x"),), stream=True)
    body = b'{"model":"gpt","stream":true}'
    incoming = Incoming("POST", "/", {}, None, "r")
    return Call(incoming, Principal("p"), "openai_chat", request, body, "openai_chat")


async def test_headers(make_provider, upstream, make_call, target):
    """The upstream sees the gateway's credential, the request's id and configured headers, nothing of the client."""
    upstream.streams(WHOLE)
    provider = make_provider(organization="org-1", project="proj-1", headers={"X-Vendor": "on"})
    await collect(provider.stream(make_call(), target))
    request = upstream.received[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"].startswith("Bearer sk-canary")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-request-id"] == "req-1"
    assert request.headers["openai-organization"] == "org-1"
    assert request.headers["openai-project"] == "proj-1"
    assert request.headers["x-vendor"] == "on"
    assert "gk_client" not in str(request.headers)


async def test_without_a_key_no_authorization_is_sent(make_provider, upstream, make_call, target):
    """An upstream without a key gets no Authorization header."""
    upstream.streams(WHOLE)
    await collect(make_provider(api_key=None).stream(make_call(), target))
    assert "authorization" not in upstream.received[0].headers


async def test_usage_is_asked_for_and_hidden(make_provider, upstream, make_call, target):
    """With ``ask_for_usage`` the gateway learns the counts and the client sees no trace of it."""
    counts = b"data: " + msgspec.json.encode({"id": "c1", "choices": [], "usage": COUNTS}) + b"\n\n"
    upstream.streams([*WHOLE[:-1], counts, DONE])
    events = await collect(make_provider(ask_for_usage=True).stream(make_call(), target))
    assert upstream.received[0].json["stream_options"] == {"include_usage": True}
    assert b"".join(event.data for event in events[:-1]) == b"".join(WHOLE[:-1])
    assert events[-1] == Usage(3, 2)


async def test_usage_that_the_client_asked_for_is_its_own(make_provider, upstream, make_call, target):
    """A client that asks for usage keeps its chunk, and its body stays as it is."""
    counts = b"data: " + msgspec.json.encode({"id": "c1", "choices": [], "usage": COUNTS}) + b"\n\n"
    upstream.streams([*WHOLE[:-1], counts, DONE])
    body = b'{"model":"gpt","stream":true,"stream_options": {"include_usage":true}}'
    call = make_call(body, include_usage=True)
    events = await collect(make_provider(ask_for_usage=True).stream(call, target))
    assert upstream.received[0].body == body
    assert b"".join(event.data for event in events[:-1]) == b"".join([*WHOLE[:-1], counts])
    assert events[-1] == Usage(3, 2)


async def test_whole_answer_passes(provider, upstream, make_call, target):
    """A non-streamed answer is the upstream's bytes, with model and usage read from them."""
    spelled = msgspec.json.format(msgspec.json.encode(ANSWER), indent=3)
    upstream.answers(200, spelled)
    call = make_call(stream=False)
    reply = await provider.complete(call, target)
    assert reply.raw == spelled
    assert (reply.model, reply.usage) == ("gpt-real", Usage(3, 2))
    assert await collect(provider.stream(call, target)) == [Raw(spelled), Usage(3, 2)]
    assert upstream.received[0].body == call.body


# translation


async def test_stream_and_whole_answer_agree(provider, upstream, make_call, target):
    """The translated stream folds to the same reply as the answer in one piece, and neither is the other's body."""
    upstream.streams([*WHOLE[:-1], b"data: " + msgspec.json.encode({"choices": [], "usage": COUNTS}) + b"\n\n", DONE])
    folded = await fold(provider.stream(make_call(raw=False, stream=False), target))
    upstream.answers(200, ANSWER)
    reply = await provider.complete(make_call(raw=False, stream=False), target)
    assert reply == folded
    assert [request.json.get("stream", False) for request in upstream.received] == [True, False]


async def test_translated_events(provider, upstream, make_call, target):
    """A translated stream starts with the model, brings the text as it comes, and ends with the reason."""
    upstream.streams(WHOLE)
    events = await collect(provider.stream(make_call(raw=False), target))
    assert events == [Started("gpt-real", "c1", 7), TextDelta("H"), TextDelta("i"), Finished("stop")]


RICH = ChatRequest(
    model="alias",
    stream=True,
    include_usage=True,
    messages=(
        Message("developer", "Be brief."),
        Message(
            "user",
            (
                TextPart("Look"),
                ImagePart("data:image/png;base64,AA==", "low"),
                ImagePart("https://x/y.png"),
                AudioPart("AA==", "wav"),
                FilePart("file-1"),
                FilePart(data="data:application/pdf;base64,AA==", filename="a.pdf"),
            ),
            name="ann",
        ),
        Message("assistant", tool_calls=(ToolCall("call_1", "look", '{"x": 1}'),)),
        Message("tool", "[]", tool_call_id="call_1"),
        Message("assistant", ""),
    ),
    tools=(Tool("look", "Looks.", {"type": "object"}, True), Tool("bare")),
    tool_choice=NamedTool("look"),
    parallel_tool_calls=False,
    response_format=ResponseFormat("json_schema", "shape", {"type": "object"}, True),
    temperature=0.0,
    top_p=0.5,
    max_tokens=9,
    stop=("a", "b"),
    n=2,
    seed=1,
    frequency_penalty=0.1,
    presence_penalty=-0.1,
    logprobs=True,
    top_logprobs=2,
    reasoning_effort="low",
    user="u",
    extra={"service_tier": "flex", "model": "smuggled", "stream": False},
)


async def test_every_field_is_translated(provider, upstream, make_call, target):
    """Each field of a request stands in the upstream's body under OpenAI's name; extra fields cannot replace them."""
    upstream.streams(WHOLE)
    await collect(provider.stream(make_call(raw=False, request=RICH), target))
    assert upstream.received[0].json == {
        "model": "gpt",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                    {
                        "type": "file",
                        "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
                ],
            },
            {"role": "tool", "content": "[]", "tool_call_id": "call_1"},
            {"role": "assistant", "content": ""},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Looks.",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "bare"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "shape", "schema": {"type": "object"}, "strict": True},
        },
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 9,
        "stop": ["a", "b"],
        "n": 2,
        "seed": 1,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "user": "u",
        "service_tier": "flex",
    }


async def test_length_field_can_be_named(make_provider, upstream, make_call, target):
    """The limit of the answer's length goes under the configured name."""
    upstream.answers(200, ANSWER)
    provider = make_provider(max_tokens_field="max_completion_tokens")
    await provider.complete(make_call(raw=False, stream=False, max_tokens=5), target)
    assert upstream.received[0].json["max_completion_tokens"] == 5
    assert "max_tokens" not in upstream.received[0].json


async def test_nothing_is_made_up(provider, upstream, make_call, target):
    """What the client did not say is not sent."""
    upstream.answers(200, ANSWER)
    await provider.complete(make_call(raw=False, stream=False), target)
    assert upstream.received[0].json == {"model": "gpt", "messages": [{"role": "user", "content": "Hello"}]}


# failures


MODES = pytest.mark.parametrize("raw", [True, False], ids=["raw", "translated"])


@MODES
@pytest.mark.parametrize("pieces", [[], [chunk("H")], [chunk("H"), chunk("i")[:20]], [chunk("H"), b"data: {"]])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "ended"])
async def test_broken_streams_are_errors(raw, pieces, cut, provider, upstream, make_call, target):
    """A stream that breaks off, by the connection or by just ending, raises; what came before was given."""
    upstream.streams(pieces, cut=cut)
    events, error = await collect_until_error(provider.stream(make_call(raw=raw), target))
    assert bool(events) == bool(pieces)
    assert isinstance(error, ProviderUnavailable | ProviderBadAnswer)


@MODES
async def test_error_frame_in_mid_stream(raw, provider, upstream, make_call, target):
    """An error frame becomes the typed error, after what was said before it."""
    error = b'data: {"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}\n\n'
    upstream.streams([chunk("H") + error])
    events, error_raised = await collect_until_error(provider.stream(make_call(raw=raw), target))
    assert events
    assert isinstance(error_raised, ProviderBusy)


@MODES
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[{}',
        b"<html>",
        b'{"choices":[{"message":{"content":"\xff"}}]}',
        b'{"choices":' + b"[" * 5000,
    ],
)
async def test_whole_answers_that_are_none(raw, body, provider, upstream, make_call, target):
    """Empty, cut, foreign and invalid answers are the provider's fault."""
    upstream.answers(200, body)
    with pytest.raises(ProviderBadAnswer):
        await provider.complete(make_call(raw=raw, stream=False), target)


@MODES
@pytest.mark.parametrize("stream", [True, False])
async def test_error_with_status_200(raw, stream, provider, upstream, make_call, target):
    """An error document under status 200 is still that error."""
    upstream.answers(200, {"error": {"message": "no such model", "code": "model_not_found"}})
    call = make_call(raw=raw, stream=stream)
    with pytest.raises(ModelNotFound):
        await (collect(provider.stream(call, target)) if stream else provider.complete(call, target))


@MODES
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("content_type", ["text/html", "", "text/plain", "application/octet-stream"])
async def test_other_content_types(raw, stream, content_type, provider, upstream, make_call, target):
    """An answer of another content type than the promised one is not read."""
    upstream.answers(200, ANSWER if not stream else b"".join(WHOLE), ("Content-Type", content_type))
    call = make_call(raw=raw, stream=stream)
    with pytest.raises(ProviderBadAnswer):
        await (collect(provider.stream(call, target)) if stream else provider.complete(call, target))


async def test_redirects_are_not_followed(provider, upstream, make_call, target):
    """A redirect is a bad answer: the key goes to no other address."""
    upstream.answers(307, b"", ("Location", f"{upstream.base_url}/elsewhere"))
    with pytest.raises(ProviderBadAnswer):
        await collect(provider.stream(make_call(), target))
    assert len(upstream.received) == 1


async def test_no_listener(make_provider, make_call, target, unused_tcp_port):
    """An upstream that does not listen is unavailable."""
    provider = make_provider(base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(ProviderUnavailable):
        await collect(provider.stream(make_call(), target))


# connections


@MODES
async def test_cancel_closes_the_upstream(raw, provider, upstream, make_call, target):
    """When the gateway lets go of a stream, its connection is closed within 100 ms, a busy machine apart."""

    async def script(request, wire):
        await wire.begin_stream()
        await wire.piece(chunk("H"))
        await wire.gone()

    upstream.script = script
    seconds = []
    for count in (1, 2, 3):
        events = provider.stream(make_call(raw=raw), target)
        await anext(events)
        began = time.monotonic()
        await events.aclose()
        await until(lambda count=count: upstream.closed == count)
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.1


async def test_cancelled_task_closes_the_upstream(provider, upstream, make_call, target):
    """A task that is cancelled while it waits for the first byte leaves no connection."""
    waiting = asyncio.Event()

    async def script(request, wire):
        waiting.set()
        await wire.gone()

    upstream.script = script
    task = asyncio.create_task(collect(provider.stream(make_call(), target)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: upstream.closed == 1)


async def test_connection_is_used_again_after_a_whole_stream(provider, upstream, make_call, target):
    """Streams one after another share one connection, although the end mark comes before the end of the body."""

    async def script(request, wire):
        await wire.begin_stream()
        for piece in WHOLE:
            await wire.piece(piece)
        await asyncio.sleep(0)
        await wire.end_stream()

    upstream.script = script
    for _ in range(3):
        await collect(provider.stream(make_call(), target))
    assert upstream.connections == 1


async def test_body_that_never_ends_delays_little(provider, upstream, make_call, target):
    """An upstream that leaves the body open behind the end mark does not keep the client."""

    async def script(request, wire):
        await wire.begin_stream()
        await wire.piece(b"".join(WHOLE))
        await wire.gone()

    upstream.script = script
    events = await asyncio.wait_for(collect(provider.stream(make_call(), target)), 5)
    assert b"".join(event.data for event in events) == b"".join(WHOLE[:-1])
    await until(lambda: upstream.closed == 1)


@pytest.mark.parametrize("body", ODD_BODIES)
async def test_bytes_pass_through_a_whole_gateway(body, provider, upstream):
    """From the client's socket to the upstream's and back nothing is changed: the hashes are the same both ways."""
    upstream.streams(WHOLE)
    body = body.replace(b'"messages":[]', b'"messages":[{"role":"user","content":"x"}]')
    async with gateway_client(make_gateway(plugin_of(providers=[provider]))) as client:
        answer = await client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert hashlib.sha256(upstream.received[-1].body).digest() == hashlib.sha256(body).digest()
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(b"".join(WHOLE)).digest()


async def test_error_in_mid_stream_through_a_whole_gateway(provider, upstream):
    """A client hears of an upstream that dies in mid-stream by an error frame, and gets no false end mark."""
    upstream.streams([chunk("H")], cut=True)
    async with gateway_client(make_gateway(plugin_of(providers=[provider]))) as client:
        body = {"model": "gpt", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.content.startswith(chunk("H"))
    assert b'"error"' in answer.content
    assert b"[DONE]" not in answer.content


async def test_close_leaves_nothing(provider, upstream, make_call, target):
    """After ``aclose`` no connection is open and no task is left."""
    upstream.streams(WHOLE)
    await collect(provider.stream(make_call(), target))
    await provider.aclose()
    await until(lambda: upstream.closed == upstream.connections == 1)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


# the list of models


async def test_models_are_listed(provider, upstream):
    """The upstream's list gives the models, without entries that cannot be names."""
    entries = [
        {"id": "b", "owned_by": "me", "created": 5},
        {"id": "a"},
        {"id": ""},
        {"id": "x" * 300},
        {"id": "a\nb"},
    ]
    upstream.answers(200, {"object": "list", "data": entries})
    assert await provider.models() == (Model("b", "me", 5), Model("a", "openai", 0))
    assert (upstream.received[0].method, upstream.received[0].path) == ("GET", "/v1/models")


async def test_static_models(make_provider, upstream):
    """Configured models are the list, and the upstream is not asked."""
    assert await make_provider(models=("m",)).models() == (Model("m", "openai"),)
    assert upstream.received == []


async def test_no_list(provider, upstream):
    """An upstream without a list of models cannot tell, which is no error."""
    upstream.answers(404, b"404 page not found")
    assert await provider.models() == ()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":[{}]}', b'{"data":[' + b" " * 5_000_000 + b"]}"])
async def test_bad_lists(provider, upstream, body):
    """A list that cannot be read, or is larger than any, is a bad answer."""
    upstream.answers(200, body)
    with pytest.raises(ProviderBadAnswer):
        await provider.models()


async def test_list_has_a_time_limit(provider, upstream, monkeypatch):
    """An upstream that never lists its models costs a bounded time."""
    monkeypatch.setattr("gatewaykit_openai.provider.LIST_SECONDS", 0.05)

    async def script(request, wire):
        await wire.gone()

    upstream.script = script
    with pytest.raises(ProviderTimeout):
        await provider.models()


async def test_list_errors_are_typed(provider, upstream):
    """A refused list is the same typed error as a refused call."""
    upstream.answers(503, b"down")
    with pytest.raises(ProviderError):
        await provider.models()
