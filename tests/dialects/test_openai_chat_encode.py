"""The bytes of OpenAI's chunks, completions and errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from gatewaykit import errors
from gatewaykit.dialects import OpenAIChat
from gatewaykit.sse import payloads
from gatewaykit.types import (
    Call,
    Choice,
    Event,
    Finished,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

CallOf = Callable[..., Call]

STARTED = Started(model="answering", id="chatcmpl-1", created=1_700_000_000)
LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}
USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
USAGE_DOCUMENT = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def chunks(call: Call, *events: Event) -> list[dict[str, Any]]:
    """The chunks for ``events``, read by the gateway's own reader of frames."""
    encoder = OpenAIChat().encoder(call)
    body = b"".join(encoder.encode(event) for event in events)
    return [json.loads(payload) for payload in payloads(body)]


def deltas(call: Call, *events: Event) -> list[tuple[int, dict[str, Any], str | None]]:
    """Choice, delta and finish reason of each chunk."""
    return [
        (choice["index"], choice["delta"], choice["finish_reason"])
        for chunk in chunks(call, *events)
        for choice in chunk["choices"]
    ]


def opening(content: str | None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "refusal": None}


def test_a_text_stream_is_as_openai_writes_it(chat_call: CallOf) -> None:
    """Role, texts and finish reason come in chunks with exactly the official fields."""
    common = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "answering",
    }
    written = chunks(chat_call(stream=True), STARTED, TextDelta("He"), TextDelta("llo"), Finished("length"), USAGE)
    expected: list[tuple[dict[str, Any], str | None]] = [
        (opening(""), None),
        ({"content": "He"}, None),
        ({"content": "llo"}, None),
        ({}, "length"),
    ]
    assert written == [
        {**common, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in expected
    ]


def test_usage_comes_last_and_only_if_wanted(chat_call: CallOf) -> None:
    """With ``include_usage`` a last chunk without choices has the usage, and all others a null."""
    call = chat_call(stream=True, stream_options={"include_usage": True})
    *others, last = chunks(call, TextDelta("a"), TextDelta("b"), Finished(), USAGE)
    assert [chunk["usage"] for chunk in others] == [None] * 4
    assert last["choices"] == []
    assert last["usage"] == USAGE_DOCUMENT
    assert all("usage" not in chunk for chunk in chunks(chat_call(stream=True), TextDelta("a"), Finished(), USAGE))


def test_a_tool_call_is_introduced_once(chat_call: CallOf) -> None:
    """Id, type and name are in the first fragment of a call only, even when a provider repeats them."""
    written = deltas(
        chat_call(stream=True),
        ToolCallDelta(0, "call_1", "add", ""),
        ToolCallDelta(0, "call_1", "add", "{"),
        ToolCallDelta(1, "call_2", "sub", "{}"),
        ToolCallDelta(0, arguments="}"),
        Finished("tool_calls"),
    )

    def first(index: int, call_id: str, name: str, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}

    assert written == [
        (0, opening(None), None),
        (0, first(0, "call_1", "add", ""), None),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, None),
        (0, first(1, "call_2", "sub", "{}"), None),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, None),
        (0, {}, "tool_calls"),
    ]


def test_thoughts_and_refusals_have_their_own_fields(chat_call: CallOf) -> None:
    """Reasoning is ``reasoning_content`` and a refusal is ``refusal``, beside the text."""
    events = (ReasoningDelta("Hm"), RefusalDelta("No"), TextDelta("."), Finished())
    assert deltas(chat_call(stream=True), *events) == [
        (0, opening(None), None),
        (0, {"reasoning_content": "Hm"}, None),
        (0, {"refusal": "No"}, None),
        (0, {"content": "."}, None),
        (0, {}, "stop"),
    ]


def test_an_empty_answer_has_a_role(chat_call: CallOf) -> None:
    """A stream without any text still says who speaks and why it ended."""
    assert deltas(chat_call(stream=True), Finished("content_filter")) == [
        (0, opening(""), None),
        (0, {}, "content_filter"),
    ]


def test_choices_begin_in_order(chat_call: CallOf) -> None:
    """The first delta of a choice never comes before those of the choices before it."""
    written = deltas(chat_call(stream=True, n=3), TextDelta("c", 2), TextDelta("a", 0), Finished(choice=1))
    assert [(index, delta) for index, delta, _ in written] == [
        (0, opening(None)),
        (1, opening(None)),
        (2, opening("")),
        (2, {"content": "c"}),
        (0, {"content": "a"}),
        (1, {}),
    ]


def test_a_wild_choice_number_costs_nothing(chat_call: CallOf) -> None:
    """A provider's absurd choice number opens that choice and those that were asked for, no more."""
    written = deltas(chat_call(stream=True, n=2), TextDelta("x", 10**9))
    assert [index for index, _, _ in written] == [0, 1, 10**9, 10**9]


def test_logprobs_pass(chat_call: CallOf) -> None:
    """Log probabilities stand beside the delta, in chunks that have them."""
    written = chunks(chat_call(stream=True), TextDelta("Hi", logprobs=LOGPROBS), TextDelta("!", logprobs=LOGPROBS))
    assert [chunk["choices"][0]["logprobs"] for chunk in written] == [None, LOGPROBS, LOGPROBS]


def test_raw_frames_pass_as_they_are(chat_call: CallOf) -> None:
    """What a provider wrote in this dialect reaches the client byte by byte."""
    data = b'data: {"any":  "thing"}\n\n'
    assert OpenAIChat().encoder(chat_call(stream=True)).encode(Raw(data)) is data
    assert OpenAIChat().encode_reply(chat_call(), Reply(raw=b'{"a":  1}')) == b'{"a":  1}'


def test_started_writes_nothing(chat_call: CallOf) -> None:
    """The beginning alone has no frame, and the end mark comes from the end only."""
    encoder = OpenAIChat().encoder(chat_call(stream=True))
    assert encoder.encode(STARTED) == b""
    assert b"[DONE]" not in encoder.encode(TextDelta("a")) + encoder.encode(Finished())
    assert encoder.finish() == b"data: [DONE]\n\n"


def test_what_the_provider_left_out_is_made(chat_call: CallOf) -> None:
    """Without the provider's own, id, time and model are the request's, and the same in every chunk."""
    before = int(time.time())
    written = chunks(chat_call(stream=True), Started(), TextDelta("a"), Finished())
    assert {chunk["id"] for chunk in written} == {"chatcmpl-0190a1b2c3d47e5f8a9b0c1d2e3f4a5b"}
    assert {chunk["model"] for chunk in written} == {"asked-for"}
    created = {chunk["created"] for chunk in written}
    assert len(created) == 1
    assert before <= created.pop() <= int(time.time())
    reply = json.loads(OpenAIChat().encode_reply(chat_call(), Reply(choices=[Choice()])))
    assert (reply["id"], reply["model"]) == ("chatcmpl-0190a1b2c3d47e5f8a9b0c1d2e3f4a5b", "asked-for")


@pytest.mark.parametrize(
    "text", ["\u2028\u2029\x85\x0b\x0c\x1c", "😀𝔘", '"\\/\n\r\t\x00\x1f\x7f', "data: [DONE]\n\n", "\ufeff"]
)
def test_every_character_survives(text: str, chat_call: CallOf) -> None:
    """Line separators, astral characters, quotes and controls neither break a frame nor change."""
    written = deltas(chat_call(stream=True), TextDelta(text), TextDelta(text), ReasoningDelta(text))
    assert [delta for _, delta, _ in written[1:]] == [{"content": text}, {"content": text}, {"reasoning_content": text}]
    reply = json.loads(OpenAIChat().encode_reply(chat_call(), Reply(choices=[Choice(text=text)])))
    assert reply["choices"][0]["message"]["content"] == text


def test_halves_of_characters_do_not_break_a_stream(chat_call: CallOf) -> None:
    """Surrogates that a provider left in its text are joined in pairs, and replaced when alone."""
    first, second = "\ud83d\ude00", "a\ud83d"
    written = deltas(chat_call(stream=True), TextDelta(first), TextDelta(second), TextDelta(first, logprobs=LOGPROBS))
    assert [delta.get("content") for _, delta, _ in written] == ["", "😀", "a\ufffd", "😀"]


def test_a_completion_is_as_openai_writes_it(chat_call: CallOf) -> None:
    """A whole answer has exactly the official fields."""
    choice = Choice(text="Hello", finish_reason="length", logprobs=LOGPROBS)
    reply = Reply(model="answering", id="chatcmpl-1", created=1_700_000_000, choices=[choice], usage=USAGE)
    assert json.loads(OpenAIChat().encode_reply(chat_call(), reply)) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "answering",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": LOGPROBS,
                "finish_reason": "length",
            }
        ],
        "usage": USAGE_DOCUMENT,
    }


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(), {"content": "", "refusal": None}),
        (Choice(refusal="No"), {"content": None, "refusal": "No"}),
        (Choice(text="a", reasoning="Hm"), {"content": "a", "refusal": None, "reasoning_content": "Hm"}),
        (
            Choice(tool_calls=[ToolCall("c", "f", "{}")]),
            {
                "content": None,
                "refusal": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        ),
    ],
)
def test_a_message_says_what_it_has(choice: Choice, message: dict[str, Any], chat_call: CallOf) -> None:
    """Content is null only beside tool calls or a refusal; other fields are there when they have something."""
    written = json.loads(OpenAIChat().encode_reply(chat_call(), Reply(choices=[choice])))
    assert written["choices"][0]["message"] == {"role": "assistant", **message}
    assert "usage" not in written


def test_the_older_functions_are_answered_in_their_form(chat_call: CallOf) -> None:
    """A request with ``functions`` gets ``function_call`` and its finish reason, streamed and not."""
    call = chat_call(functions=[{"name": "add"}], stream=True)
    events = (
        ToolCallDelta(0, "c", "add", "{"),
        ToolCallDelta(1, "d", "add", "{}"),
        ToolCallDelta(0, arguments="}"),
        Finished("tool_calls"),
    )
    assert deltas(call, *events) == [
        (0, opening(None), None),
        (0, {"function_call": {"name": "add", "arguments": "{"}}, None),
        (0, {"function_call": {"arguments": "}"}}, None),
        (0, {}, "function_call"),
    ]
    choice = Choice(tool_calls=[ToolCall("c", "add", "{}")], finish_reason="tool_calls")
    [written] = json.loads(OpenAIChat().encode_reply(call, Reply(choices=[choice])))["choices"]
    assert written["message"]["function_call"] == {"name": "add", "arguments": "{}"}
    assert "tool_calls" not in written["message"]
    assert written["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (errors.BadRequest("no", param="n"), "invalid_request_error", "invalid_request"),
        (errors.BodyTooLarge(), "invalid_request_error", "body_too_large"),
        (errors.ContextTooLong(), "invalid_request_error", "context_length_exceeded"),
        (errors.ContentBlocked(), "invalid_request_error", "content_filter"),
        (errors.AuthFailed(), "authentication_error", "invalid_api_key"),
        (errors.PermissionDenied(), "permission_error", "permission_denied"),
        (errors.NotFound(), "invalid_request_error", "not_found"),
        (errors.ModelNotFound(param="model"), "invalid_request_error", "model_not_found"),
        (errors.MethodNotAllowed(), "invalid_request_error", "method_not_allowed"),
        (errors.RateLimited(), "rate_limit_error", "rate_limit_exceeded"),
        (errors.QuotaExhausted(), "insufficient_quota", "insufficient_quota"),
        (errors.Unavailable(), "server_error", "unavailable"),
        (errors.InternalError(), "server_error", "internal_error"),
        (errors.ProviderUnavailable(), "server_error", "provider_unavailable"),
        (errors.ProviderTimeout(), "server_error", "provider_timeout"),
        (errors.ProviderBusy(), "rate_limit_error", "rate_limit_exceeded"),
        (errors.ProviderAuthFailed(), "api_error", "upstream_auth_failed"),
        (errors.ProviderDenied(), "permission_error", "permission_denied"),
        (errors.ProviderUnpaid(), "insufficient_quota", "insufficient_quota"),
        (errors.ProviderBadAnswer(), "server_error", "provider_bad_answer"),
    ],
)
def test_each_error_has_openais_type(error: errors.GatewayError, kind: str, code: str) -> None:
    """Every error has OpenAI's body, with the type that its status and code call for."""
    assert json.loads(OpenAIChat().encode_error(error, "id")) == {
        "error": {"message": error.message, "type": kind, "param": error.param, "code": code}
    }


def test_an_error_tells_the_client_nothing_of_the_log() -> None:
    """The detail of an error stays out of its body, and a message that is no text is replaced."""
    secret = errors.ProviderError("It failed.", detail="https://upstream.internal/ key=abc")
    assert b"upstream.internal" not in OpenAIChat().encode_error(secret, "id")
    broken = json.loads(OpenAIChat().encode_error(errors.BadRequest("\ud800", param="\ud800"), "id"))
    assert broken["error"]["message"] == errors.BadRequest.default_message
