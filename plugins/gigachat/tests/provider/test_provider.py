"""The provider against the sandbox, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from gatewaykit.errors import (
    BadRequest,
    ContextTooLong,
    GatewayError,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
)
from gatewaykit.testing import one_by_one
from gatewaykit.types import Finished, Message, Model, Started, Target, TextDelta, Tool, ToolCall, ToolCallDelta, Usage
from gatewaykit_gigachat.sandbox import SandboxSettings

MODEL = Target("gigachat", "GigaChat-2-Max")
NINE = "word1 word2 word3 word4 word5 word6 word7 word8 word9"


def text_of(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_stream_gives_text_one_finish_and_usage(bench: Any) -> None:
    """A streamed answer is text in several pieces, exactly one finish, and the usage last."""
    events = await bench.events(bench.provider(), bench.call())
    assert text_of(events) == NINE
    assert len([event for event in events if isinstance(event, TextDelta)]) > 1
    assert [event.reason for event in events if isinstance(event, Finished)] == ["stop"]
    assert isinstance(events[-1], Usage)
    assert events[-1].output_tokens > 0


async def test_complete_equals_the_folded_stream(bench: Any) -> None:
    """The answer in one piece has the text, the reason and the usage of the streamed one."""
    provider = bench.provider()
    reply = await provider.complete(bench.call(), MODEL)
    events = await bench.events(provider, bench.call())
    assert reply.choices[0].text == text_of(events)
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.output_tokens == events[-1].output_tokens
    assert [event.model for event in events if isinstance(event, Started)] == [reply.model]


async def test_models_are_those_that_the_gateway_can_use(bench: Any) -> None:
    """The list holds models for chat and for vectors, and no classifiers."""
    models = await bench.provider().models()
    assert Model("GigaChat-2-Max", "salutedevices") in models
    assert Model("Embeddings", "salutedevices") in models
    assert not any("Check" in model.id or "Filter" in model.id for model in models)


async def test_every_request_names_itself(bench: Any) -> None:
    """User-Agent goes with every request; chat requests carry request, session and client ids."""
    provider = bench.provider()
    await provider.complete(bench.call(), MODEL)
    await provider.models()
    assert len(bench.sandbox.journal.entries()) == 3
    for entry in bench.sandbox.journal.entries():
        assert entry.headers["user-agent"].startswith("gatewaykit-gigachat/")
    (chat,) = bench.sandbox.journal.entries("/chat/completions")
    assert chat.headers["x-request-id"] == "request-1"
    assert len(chat.headers["x-session-id"]) == 36
    assert len(chat.headers["x-client-id"]) == 32
    assert "tenant" not in chat.headers["x-client-id"]


async def test_a_growing_conversation_hits_the_prompt_cache_of_its_tenant_alone(bench: Any) -> None:
    """The same beginning gets the same session within a tenant, and another one for another tenant."""
    provider = bench.provider()
    for tenant in ("one", "one", "two"):
        await provider.complete(bench.call("say 9 words", tenant=tenant), MODEL)
    first, second, foreign = [e.headers["x-session-id"] for e in bench.sandbox.journal.entries("/chat/completions")]
    assert first == second
    assert first != foreign


async def test_access_token_user_and_password_and_both_path_styles(bench: Any) -> None:
    """A ready token, a user with password, and both hosts' paths all lead to an answer."""
    token, _ = bench.sandbox.sandbox.tokens.issue("sandbox-b2b", "GIGACHAT_API_B2B")
    for fields in (
        {"access_token": token},
        {"user": "sandbox", "password": "sandbox-password"},
        {"credentials": bench.sandbox.credentials, "base_url": bench.sandbox.new_base_url},
    ):
        reply = await bench.provider(**fields).complete(bench.call(), MODEL)
        assert reply.choices[0].text == NINE


@pytest.mark.parametrize("scope", ["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"])
async def test_every_scope_works_with_its_own_key(bench: Any, scope: str) -> None:
    """A key signs in with its scope."""
    provider = bench.provider(credentials=bench.sandbox.key(scope), scope=scope)
    assert (await provider.complete(bench.call(), MODEL)).choices[0].text == NINE


@pytest.mark.parametrize("sandbox_settings", [SandboxSettings(parallel={"GIGACHAT_API_B2B": 100})])
async def test_fifty_parallel_first_requests_fetch_one_token(bench: Any) -> None:
    """However many calls come first, the token endpoint is asked once."""
    provider = bench.provider()
    replies = await asyncio.gather(*(provider.complete(bench.call(), MODEL) for _ in range(50)))
    assert [reply.choices[0].text for reply in replies] == [NINE] * 50
    assert bench.sandbox.stats.tokens_issued == 1


async def test_a_token_revoked_on_the_way_is_replaced_once(bench: Any) -> None:
    """After a 401 the token is fetched anew and the call succeeds, streamed or not."""
    provider = bench.provider()
    await provider.complete(bench.call(), MODEL)
    bench.sandbox.sandbox.tokens.revoke_all()
    assert text_of(await bench.events(provider, bench.call())) == NINE
    bench.sandbox.sandbox.tokens.revoke_all()
    assert await provider.models()
    assert bench.sandbox.stats.tokens_issued == 3


async def test_many_calls_with_a_revoked_token_fetch_one_new(bench: Any) -> None:
    """Calls that are refused together wait for the same new token."""
    provider = bench.provider()
    await provider.complete(bench.call(), MODEL)
    bench.sandbox.sandbox.tokens.revoke_all()
    await asyncio.gather(*(provider.complete(bench.call(), MODEL) for _ in range(8)))
    assert bench.sandbox.stats.tokens_issued == 2


async def test_a_ready_token_that_ends_is_the_gateways_failure(bench: Any) -> None:
    """Without a way to renew it a refused token is ProviderAuthFailed after one request."""
    provider = bench.provider(access_token="worthless")
    with pytest.raises(ProviderAuthFailed):
        await provider.complete(bench.call(), MODEL)
    assert bench.sandbox.stats.requests["/chat/completions"] == 1


async def test_a_second_401_ends_the_call(bench: Any) -> None:
    """A token that is refused although it is new is not replaced again."""
    bench.sandbox.faults.push("status=401", times=None, path="/chat/completions")
    with pytest.raises(ProviderAuthFailed):
        await bench.provider().complete(bench.call(), MODEL)
    assert bench.sandbox.stats.requests["/chat/completions"] == 2


@pytest.mark.parametrize("fault", ["status=429", "status=503", "html=502", "empty=500", "drop=before", "drop=after:0"])
async def test_what_may_pass_is_tried_again(bench: Any, fault: str) -> None:
    """Busy, broken and dropped answers are tried again before anything was streamed."""
    bench.sandbox.faults.push(fault, times=2, path="/chat/completions")
    assert text_of(await bench.events(bench.provider(), bench.call())) == NINE
    assert bench.sandbox.stats.requests["/chat/completions"] == 3


async def test_retry_after_is_obeyed(bench: Any) -> None:
    """The next try comes no sooner than the server asked for."""
    bench.sandbox.faults.push("status=503; retry-after=1", path="/chat/completions")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await bench.provider().complete(bench.call(), MODEL)
    assert loop.time() - began >= 1.0


async def test_a_longer_wait_than_allowed_is_the_clients(bench: Any) -> None:
    """A Retry-After beyond the longest wait ends the trying and is handed on."""
    bench.sandbox.faults.push("status=429; retry-after=120", path="/chat/completions")
    with pytest.raises(ProviderBusy) as caught:
        await bench.provider().complete(bench.call(), MODEL)
    assert caught.value.retry_after == 120
    assert bench.sandbox.stats.requests["/chat/completions"] == 1


async def test_statuses_that_are_not_listed_are_not_tried_again(bench: Any) -> None:
    """``retry_on_status_codes`` decides which answers are tried again."""
    bench.sandbox.faults.push("status=503", path="/chat/completions")
    with pytest.raises(ProviderUnavailable):
        await bench.provider(retry_on_status_codes=(429,)).complete(bench.call(), MODEL)
    assert bench.sandbox.stats.requests["/chat/completions"] == 1


@pytest.mark.parametrize("fault", ["drop=after:2", "garbage=3", "half-line=3"])
async def test_nothing_is_tried_again_after_the_first_event(bench: Any, fault: str) -> None:
    """A stream that fails on the way gives what came, then an error, and asks nobody again."""
    bench.sandbox.faults.push(fault, path="/chat/completions")
    received: list[Any] = []

    async def consume() -> None:
        async for event in one_by_one(bench.provider().stream(bench.call("say 30 words", stream=True), MODEL)):
            received.append(event)  # noqa: PERF401 - what came before the error is wanted

    with pytest.raises(GatewayError) as caught:
        await consume()
    assert isinstance(caught.value, ProviderUnavailable | ProviderBadAnswer)
    assert text_of(received) == "word1 word2 word3 word4 word5 word6 "
    assert bench.sandbox.stats.requests["/chat/completions"] == 1


async def test_a_stream_that_finished_needs_no_done_line(bench: Any) -> None:
    """A stream with a finish reason and without ``[DONE]`` is whole."""
    bench.sandbox.faults.push("no-done", path="/chat/completions")
    events = await bench.events(bench.provider(), bench.call())
    assert text_of(events) == NINE


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_pieces_of_any_size_give_the_same_events(bench: Any, size: int) -> None:
    """How the network cuts the stream does not matter."""
    bench.sandbox.faults.push(f"split={size}", path="/chat/completions")
    assert text_of(await bench.events(bench.provider(), bench.call("повтори: Привет, мир"))) == "Привет, мир"


async def test_the_connection_is_used_again(bench: Any) -> None:
    """Calls one after another, streamed and not, need one connection to the API."""
    provider = bench.provider(max_connections=1)
    for _ in range(3):
        await bench.events(provider, bench.call())
        await provider.complete(bench.call(), MODEL)
    assert bench.sandbox.stats.requests["/chat/completions"] == 6


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("status=400; message=Your request contains invalid JSON syntax.", BadRequest),
        ("status=422; message=Invalid params: x", BadRequest),
        ("status=402", ProviderUnpaid),
        ("status=403; message=Permission denied", ProviderDenied),
        ("status=404; message=No such model", ModelNotFound),
        ("status=413; message=Payload too large", ContextTooLong),
        ("status=429", ProviderBusy),
        ("status=500", ProviderUnavailable),
        ("html=504", ProviderUnavailable),
        ("garbage", ProviderBadAnswer),
        ("empty=200", ProviderBadAnswer),
        ("html=200", ProviderBadAnswer),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_error_answers_become_typed_errors(
    bench: Any, fault: str, kind: type[GatewayError], streamed: bool
) -> None:
    """Each error answer is the error that the client must see, streamed or not."""
    bench.sandbox.faults.push(fault, times=None, path="/chat/completions")
    provider = bench.provider(max_retries=1)
    with pytest.raises(GatewayError) as caught:
        await (bench.events(provider, bench.call()) if streamed else provider.complete(bench.call(), MODEL))
    assert type(caught.value) is kind
    assert "127.0.0.1" not in str(caught.value)


async def test_an_unknown_model_is_not_found(bench: Any) -> None:
    """A name that GigaChat does not know is ModelNotFound, so that another target may answer."""
    with pytest.raises(ModelNotFound):
        await bench.provider().complete(bench.call(), Target("gigachat", "GigaChat-999"))


async def test_nobody_there_is_unavailable(bench: Any, unused_tcp_port: int) -> None:
    """A refused connection is ProviderUnavailable, not a foreign exception."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    provider = bench.provider(base_url=f"{url}/v1", access_token="t", max_retries=1)
    with pytest.raises(ProviderUnavailable):
        await provider.complete(bench.call(), MODEL)
    with pytest.raises(ProviderUnavailable):
        await bench.provider(auth_url=url, max_retries=0).models()


async def test_the_own_time_limit_is_a_timeout(bench: Any) -> None:
    """``timeout`` ends the wait for an answer that does not begin."""
    bench.sandbox.faults.push("delay=30", path="/chat/completions")
    with pytest.raises(ProviderTimeout):
        await bench.events(bench.provider(timeout=0.2, max_retries=0), bench.call())
    await bench.until(lambda: bench.sandbox.stats.parallel == 0)


async def test_leaving_a_stream_closes_the_upstream(bench: Any) -> None:
    """When the iterator is closed in the middle, the upstream stream is cut."""
    bench.sandbox.faults.push("stall=2", path="/chat/completions")
    async with aclosing(one_by_one(bench.provider().stream(bench.call("say 90 words", stream=True), MODEL))) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
        assert bench.sandbox.stats.live_streams == 1
    await bench.until(lambda: bench.sandbox.stats.live_streams == 0)
    assert bench.sandbox.stats.cancelled_streams == 1


@pytest.mark.parametrize("fault", ["delay=60", "stall=0"])
async def test_cancelling_before_the_first_event_closes_the_upstream(bench: Any, fault: str) -> None:
    """A call that is cancelled while it waits leaves nothing running."""
    bench.sandbox.faults.push(fault, path="/chat/completions")
    waiting = asyncio.create_task(bench.events(bench.provider(), bench.call()))
    await bench.until(lambda: bench.sandbox.stats.parallel == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await bench.until(lambda: bench.sandbox.stats.parallel == 0)
    assert bench.sandbox.stats.requests["/chat/completions"] == 1


async def test_one_provider_serves_several_event_loops(bench: Any) -> None:
    """Loops in other threads get answers from the same provider, with the token that is there."""
    provider = bench.provider()
    await provider.complete(bench.call(), MODEL)
    texts: list[str] = []

    async def elsewhere() -> None:
        reply = await provider.complete(bench.call(), MODEL)
        assert await provider.models()
        texts.append(reply.choices[0].text)
        await provider.aclose()

    for _ in range(2):
        thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert texts == [NINE, NINE]
    assert bench.sandbox.stats.tokens_issued == 1


async def test_a_refused_state_id_is_left_out(bench: Any) -> None:
    """Where ``functions_state_id`` is sent and refused, the request is sent once more without it."""
    provider = bench.provider(send_state_id=True)
    tools = (Tool("weather", "The weather.", {"type": "object", "properties": {}}),)
    events = await bench.events(provider, bench.call("[[call]]", tools=tools))
    call_id = next(event.id for event in events if isinstance(event, ToolCallDelta))
    history = (
        Message("user", "[[call]]"),
        Message("assistant", tool_calls=(ToolCall(call_id, "weather", "{}"),)),
        Message("tool", '{"sky": "blue"}', tool_call_id=call_id),
    )
    bench.sandbox.faults.push("status=422; message=Invalid params: functions_state_id", path="/chat/completions")
    await provider.complete(bench.call(messages=history, tools=tools), MODEL)
    refused, accepted = [
        msgspec.json.decode(entry.body) for entry in bench.sandbox.journal.entries("/chat/completions")[-2:]
    ]
    assert any("functions_state_id" in message for message in refused["messages"])
    assert not any("functions_state_id" in message for message in accepted["messages"])
