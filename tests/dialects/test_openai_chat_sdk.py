"""The official SDK reads what the OpenAI chat dialect writes: streams, whole answers, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gatewaykit import errors
from gatewaykit.dialects import OpenAIChat
from gatewaykit.folding import Folder
from gatewaykit.sse import payloads
from gatewaykit.types import (
    Call,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

CallOf = Callable[..., Call]
Client = Callable[..., openai.OpenAI]

CHOICES = 3
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]

reasons: st.SearchStrategy[FinishReason] = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
texts = st.text(max_size=8) | st.sampled_from(["\u2028", "\x85", "😀", "\r\n\n", '"}', "[DONE]", "data: "])


@st.composite
def answers(draw: st.DrawFn, choice: int) -> list[Event]:
    """The events of one choice: fragments of every kind, tool calls introduced in order, then its end."""
    events: list[Event] = []
    tools = 0
    for kind in draw(st.lists(st.sampled_from(["text", "reasoning", "refusal", "tool", "more"]), max_size=8)):
        if kind == "text":
            events.append(TextDelta(draw(texts), choice))
        elif kind == "reasoning":
            events.append(ReasoningDelta(draw(texts), choice))
        elif kind == "refusal":
            events.append(RefusalDelta(draw(texts), choice))
        elif kind == "tool":
            events.append(ToolCallDelta(tools, f"call_{choice}_{tools}", draw(texts) + "f", draw(texts), choice))
            tools += 1
        elif tools:
            events.append(ToolCallDelta(draw(st.integers(0, tools - 1)), arguments=draw(texts), choice=choice))
    return [*events, Finished(draw(reasons), choice)]


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """A stream of up to three choices whose events are mixed in any way, each choice's own order kept."""
    pending = [draw(answers(choice)) for choice in range(draw(st.integers(1, CHOICES)))]
    events: list[Event] = []
    if draw(st.booleans()):
        events.append(Started(model=draw(texts), id=draw(texts), created=draw(st.integers(0, 2**33))))
    while pending:
        queue = draw(st.sampled_from(pending))
        events.append(queue.pop(0))
        pending = [queue for queue in pending if queue]
    if draw(st.booleans()):
        tokens = st.integers(0, 10**6)
        events.append(Usage(draw(tokens), draw(tokens), draw(tokens), draw(tokens)))
    return events


def folded(events: list[Event]) -> Reply:
    """The answer that ``events`` make, as the gateway folds it."""
    folder = Folder()
    for event in events:
        folder.add(event)
    return folder.reply()


def stream_body(call: Call, events: list[Event]) -> bytes:
    encoder = OpenAIChat().encoder(call)
    return b"".join(encoder.encode(event) for event in events) + encoder.finish()


def seen(completion: ChatCompletion) -> dict[str, Any]:
    """What a client can tell of an answer; that nothing was said may be told by null or by an empty text."""
    return {
        "model": completion.model,
        "usage": completion.usage and completion.usage.model_dump(exclude_none=True),
        "choices": [
            {
                "index": choice.index,
                "reason": choice.finish_reason,
                "content": choice.message.content or "",
                "refusal": choice.message.refusal or "",
                "reasoning": (choice.message.model_extra or {}).get("reasoning_content") or "",
                "tools": [
                    (call.id, call.type, call.function.name, call.function.arguments)
                    for call in choice.message.tool_calls or []
                    if call.type == "function"
                ],
            }
            for choice in completion.choices
        ],
    }


@given(events=streams())
def test_a_stream_says_the_same_as_the_whole_answer(events: list[Event], chat_call: CallOf, sdk: Client) -> None:
    """The SDK's own accumulation of any stream equals the SDK's reading of the same answer in one piece."""
    streaming = chat_call(stream=True, stream_options={"include_usage": True}, n=CHOICES)
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    with sdk(stream_body(streaming, events), stream=True) as client:
        for chunk in client.chat.completions.create(model="asked-for", messages=MESSAGES, n=CHOICES, stream=True):
            state.handle_chunk(chunk)
    from_stream = state.current_completion_snapshot
    with sdk(OpenAIChat().encode_reply(chat_call(n=CHOICES), folded(events))) as client:
        from_reply = client.chat.completions.create(model="asked-for", messages=MESSAGES)
    assert seen(from_stream) == seen(from_reply)


@given(events=streams(), usage=st.booleans())
def test_every_chunk_is_an_official_chunk(events: list[Event], usage: bool, chat_call: CallOf) -> None:
    """Each chunk of any stream validates as the SDK's chunk type and has no field that the type does not know."""
    call = chat_call(stream=True, stream_options={"include_usage": usage}, n=CHOICES)
    *bodies, end = payloads(stream_body(call, events))
    assert end == b"[DONE]"
    begun = set()
    for body in bodies:
        chunk = ChatCompletionChunk.model_validate(json.loads(body), strict=True)
        assert not chunk.model_extra
        for choice in chunk.choices:
            assert not choice.model_extra
            assert set(choice.delta.model_extra or {}) <= {"reasoning_content"}
            assert (choice.delta.role == "assistant") == (choice.index not in begun)
            begun.add(choice.index)
    assert begun == {event.choice for event in events if isinstance(event, Finished)}


@given(events=streams())
def test_every_completion_is_an_official_completion(events: list[Event], chat_call: CallOf) -> None:
    """Each answer in one piece validates as the SDK's type."""
    body = OpenAIChat().encode_reply(chat_call(), folded(events))
    completion = ChatCompletion.model_validate(json.loads(body), strict=True)
    assert not completion.model_extra
    for choice in completion.choices:
        assert set(choice.message.model_extra or {}) <= {"reasoning_content"}


def test_logprobs_are_accumulated(chat_call: CallOf, sdk: Client) -> None:
    """The SDK joins the log probabilities of the chunks."""

    def logprobs(token: str) -> dict[str, Any]:
        return {"content": [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}], "refusal": None}

    events: list[Event] = [TextDelta(word, logprobs=logprobs(word)) for word in ("a", "b", "c")]
    body = stream_body(chat_call(stream=True, logprobs=True), [*events, Finished()])
    with (
        sdk(body, stream=True) as client,
        client.chat.completions.stream(model="m", messages=MESSAGES, logprobs=True) as stream,
    ):
        [choice] = stream.get_final_completion().choices
    assert choice.logprobs is not None
    assert [entry.token for entry in choice.logprobs.content or []] == ["a", "b", "c"]


def test_the_older_functions_are_understood(chat_call: CallOf, sdk: Client) -> None:
    """A client that sent ``functions`` finds the call where it looks for it."""
    call = chat_call(functions=[{"name": "add"}], stream=True)
    events: list[Event] = [ToolCallDelta(0, "c", "add", "{"), ToolCallDelta(0, arguments="}"), Finished("tool_calls")]
    functions: Any = [{"name": "add"}]
    with sdk(stream_body(call, events), stream=True) as client:
        stream = client.chat.completions.create(model="m", messages=MESSAGES, functions=functions, stream=True)
        calls = [chunk.choices[0].delta.function_call for chunk in stream]
    assert "".join(call.arguments or "" for call in calls if call) == "{}"
    with sdk(OpenAIChat().encode_reply(call, folded(events))) as client:
        [choice] = client.chat.completions.create(model="m", messages=MESSAGES, functions=functions).choices
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("add", "{}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BadRequest("Wrong.", param="n"), openai.BadRequestError),
        (errors.AuthFailed(), openai.AuthenticationError),
        (errors.PermissionDenied(), openai.PermissionDeniedError),
        (errors.ModelNotFound(param="model"), openai.NotFoundError),
        (errors.BodyTooLarge(), openai.APIStatusError),
        (errors.RateLimited(), openai.RateLimitError),
        (errors.QuotaExhausted(), openai.RateLimitError),
        (errors.InternalError(), openai.InternalServerError),
        (errors.ProviderAuthFailed(), openai.InternalServerError),
        (errors.ProviderTimeout(), openai.InternalServerError),
    ],
)
def test_an_error_is_the_sdks_own(error: errors.GatewayError, kind: type[openai.APIStatusError], sdk: Client) -> None:
    """Each error arrives as the SDK's typed exception, with message, code and field."""
    body = OpenAIChat().encode_error(error, "id")
    with sdk(body, status=error.status) as client, pytest.raises(kind) as caught:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.code == error.code
    assert caught.value.param == error.param
    assert error.message in caught.value.message


def broken_stream(call: Call) -> bytes:
    encoder = OpenAIChat().encoder(call)
    return encoder.encode(TextDelta("Hel")) + encoder.fail(errors.ProviderBadAnswer("It broke\u2028off."))


def test_an_error_in_mid_stream_is_raised(chat_call: CallOf, sdk: Client) -> None:
    """The SDK's stream delivers the text before an error, then raises it with message and code; no end mark is sent."""
    body = broken_stream(chat_call(stream=True))
    assert b"[DONE]" not in body
    with sdk(body, stream=True) as client:
        stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
        with pytest.raises(openai.APIError) as caught:
            next(stream)
    assert caught.value.message == "It broke\u2028off."
    assert caught.value.code == "provider_bad_answer"


def test_an_error_in_mid_stream_ends_the_streaming_helper(chat_call: CallOf, sdk: Client) -> None:
    """The SDK's streaming helper raises the same error in place of a final completion."""
    with (
        sdk(broken_stream(chat_call(stream=True)), stream=True) as client,
        client.chat.completions.stream(model="m", messages=MESSAGES) as stream,
        pytest.raises(openai.APIError) as caught,
    ):
        stream.get_final_completion()
    assert caught.value.code == "provider_bad_answer"
