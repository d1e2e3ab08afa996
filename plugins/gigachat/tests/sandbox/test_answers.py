"""What the model says, and how it is written."""

from __future__ import annotations

import json
import uuid

import pytest

from gatewaykit_gigachat.sandbox import PERS, SandboxSettings, running_sandbox

WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "place": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 3},
        },
        "required": ["place", "days"],
    },
}
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("repeat: a  b\n", "a  b\n"),
        ("Повтори: эхо", "эхо"),
        ("repeat:", ""),
        ("Say 3 words please", "word1 word2 word3"),
        ("скажи 2 слова", "слово1 слово2"),
        ("say 0 words", ""),
        ("Who are you?", "Hello! You wrote: “Who are you?”. This is the GigaChat sandbox answering."),
        ("Кто ты?", "Здравствуйте! Вы написали: «Кто ты?». Вам отвечает песочница GigaChat."),
        ("", "Hello! This is the GigaChat sandbox."),
    ],
)
def test_text(api, asked, answer):
    """The text follows the documented rules, in both languages, the same each time and in both formats."""
    assert api.message(asked)["content"] == answer
    assert api.message(asked)["content"] == answer
    assert "".join(event["choices"][0]["delta"]["content"] for event in api.stream(asked)[:-1]) == answer


def test_max_tokens_cut(api):
    """``max_tokens`` cuts the text, counts no more tokens than allowed, and gives ``length``."""
    body = api.chat("say 100 words", max_tokens=4).json()
    assert body["choices"][0]["message"]["content"] == "word1 word2 wo"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 4
    assert api.chat("say 2 words", max_tokens=4).json()["choices"][0]["finish_reason"] == "stop"


def test_stream_byte_for_byte(api):
    """A stream has role in the first delta only, finish reason and usage in the last event only, then the end mark."""
    first, second, last, done, rest = api.chat("say 4 words", stream=True).text.split("\n\n")
    created = json.loads(first.removeprefix("data: "))["created"]
    frame = f'"created":{created},"model":"GigaChat-2-Max:2.0.30.01","object":"chat.completion"'
    assert (
        first
        == f'data: {{"choices":[{{"delta":{{"content":"word1 word2 word3 ","role":"assistant"}},"index":0}}],{frame}}}'
    )
    assert second == f'data: {{"choices":[{{"delta":{{"content":"word4"}},"index":0}}],{frame}}}'
    usage = '"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"precached_prompt_tokens":0}'
    assert last == (
        f'data: {{"choices":[{{"delta":{{"content":""}},"index":0,"finish_reason":"stop"}}],{frame},{usage}}}'
    )
    assert (done, rest) == ("data: [DONE]", "")


def test_stream_keeps_letters(api):
    """Text that is not ASCII is written as UTF-8, not escaped."""
    assert "слово1" in api.chat("скажи 1 слово", stream=True).content.decode()


@pytest.mark.parametrize("function_call", [None, "auto", {"name": "get_weather"}])
def test_function_call(api, function_call):
    """A function named in the question, or demanded, is called with arguments that fit its schema."""
    asked = "ask get_weather" if function_call in (None, "auto") else "hello"
    choice = api.chat(asked, functions=[CLOCK, WEATHER], function_call=function_call).json()["choices"][0]
    message = choice["message"]
    assert choice["finish_reason"] == "function_call"
    assert list(message) == ["content", "role", "function_call", "functions_state_id"]
    assert message["function_call"] == {"name": "get_weather", "arguments": {"place": "place", "days": 3}}
    assert message["content"] == ""
    assert uuid.UUID(message["functions_state_id"]).version == 4


def test_partial_arguments(api):
    """Arguments that the request fills in are taken over."""
    forced = {"name": "get_weather", "partial_arguments": {"place": "Tver"}}
    called = api.message("hello", functions=[WEATHER], function_call=forced)["function_call"]
    assert called["arguments"] == {"place": "Tver", "days": 3}


def test_trigger(api):
    """The trigger calls the first function; ``none`` and a question without a cause call nothing."""
    assert api.message("[[call]]", functions=[CLOCK, WEATHER])["function_call"]["name"] == "clock"
    assert "function_call" not in api.message("[[call]]", functions=[CLOCK], function_call="none")
    assert "function_call" not in api.message("hello", functions=[CLOCK])


def test_function_result_is_told(api):
    """After a result the answer is a text that holds it, though the question names the function."""
    history = [
        {"role": "user", "content": "спроси clock"},
        {"role": "assistant", "content": "", "function_call": {"name": "clock", "arguments": {}}},
        {"role": "function", "name": "clock", "content": '{"now": 12}'},
    ]
    assert api.message("", messages=history, functions=[CLOCK])["content"] == 'Функция clock вернула: {"now": 12}'


def test_arguments_that_cannot_be_made(api):
    """A schema that nothing fits ends in the finish reason ``error``."""
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]}}
    assert api.chat("[[call]]", functions=[function]).json()["choices"][0]["finish_reason"] == "error"


@pytest.mark.parametrize("same", [True, False])
def test_function_call_in_stream(same, open_api):
    """The whole call is in one delta; its finish reason is in the next event or, by setting, in the same one."""
    settings = SandboxSettings(function_call_finish="same" if same else "next")
    with running_sandbox(settings) as running:
        *data, done = open_api(running).stream("clock", functions=[CLOCK])
    choices = [event["choices"][0] for event in data]
    assert done == "[DONE]"
    assert choices[0]["delta"]["function_call"] == {"name": "clock", "arguments": {}}
    assert choices[0]["delta"]["functions_state_id"]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice.get("finish_reason") for choice in choices] == (
        ["function_call"] if same else [None, "function_call"]
    )
    assert "usage" in data[-1]


def test_structured_output(api):
    """A JSON schema is answered with a pretty-printed document: all fields if strict, else the required ones."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["answer"],
    }
    wanted = {"type": "json_schema", "schema": schema}
    loose = api.message("hi", response_format=wanted)["content"]
    assert loose == '{\n    "answer": "answer"\n}'
    strict = api.message("hi", response_format={**wanted, "strict": True})["content"]
    assert json.loads(strict) == {"answer": "answer", "n": 1}


def test_reasoning(api):
    """Models that reason tell their thoughts when an effort is asked for; others ignore it."""
    fields = {"model": "GigaChat-3-Ultra", "reasoning_effort": "medium"}
    assert "I was asked" in api.message("why?", **fields)["reasoning_content"]
    assert "reasoning_content" not in api.message("why?", model="GigaChat-3-Ultra")
    assert "reasoning_content" not in api.message("why?", reasoning_effort="low")
    deltas = [event["choices"][0]["delta"] for event in api.stream("why?", **fields)[:-1]]
    assert "I was asked" in "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert [index for index, delta in enumerate(deltas) if "role" in delta] == [0]


def test_headers_are_echoed(api):
    """Ids sent by the client come back; those it did not send are made, except ``x-client-id``."""
    sent = {"x-request-id": "r-1", "x-session-id": "s-1", "x-client-id": "c-1"}
    answer = api.chat("hi", headers=sent)
    assert {name: answer.headers[name] for name in sent} == sent
    made = api.chat("hi")
    assert uuid.UUID(made.headers["x-request-id"])
    assert uuid.UUID(made.headers["x-session-id"])
    assert "x-client-id" not in made.headers


def test_prompt_cache(open_api):
    """Leading messages seen in the same session within 30 seconds count as cached; nothing else does."""
    now = [1000.0]
    system = {"role": "system", "content": "You are a helpful assistant. " * 20}
    with running_sandbox(SandboxSettings(clock=lambda: now[0])) as running:
        api = open_api(running)

        def usage(session: str | None, *texts: str) -> dict[str, int]:
            messages = [system, *({"role": "user", "content": text} for text in texts)]
            headers = {} if session is None else {"x-session-id": session}
            return api.chat(headers=headers, messages=messages).json()["usage"]

        assert usage("a", "one")["precached_prompt_tokens"] == 0
        second = usage("a", "one", "two")
        assert 100 < second["precached_prompt_tokens"] < second["prompt_tokens"]
        now[0] += 29
        assert usage("a", "one", "two")["precached_prompt_tokens"] == second["prompt_tokens"] - 1
        assert usage("b", "one")["precached_prompt_tokens"] == 0
        assert usage(None, "one")["precached_prompt_tokens"] == 0
        assert usage(None, "one")["precached_prompt_tokens"] == 0
        now[0] += 31
        assert usage("a", "one")["precached_prompt_tokens"] == 0
        system["content"] = "Changed."
        assert usage("a", "one")["precached_prompt_tokens"] == 0


def test_cached_tokens_may_be_left_out(open_api):
    """``prompt_includes_cached`` off subtracts the cached tokens from ``prompt_tokens``."""
    with running_sandbox(SandboxSettings(prompt_includes_cached=False)) as running:
        api = open_api(running)
        usages = [api.chat("x" * 700, headers={"x-session-id": "s"}).json()["usage"] for _ in range(2)]
    assert usages[1]["prompt_tokens"] == 1
    assert usages[1]["precached_prompt_tokens"] == usages[0]["prompt_tokens"] - 1


def test_empty_package(open_api):
    """A prepaid client whose package for a model is used up gets 402 for that model only."""
    with running_sandbox(SandboxSettings(package_tokens=10)) as running:
        api = open_api(running, PERS)
        assert api.chat("a long enough question").status_code == 200
        assert api.chat("hi").json() == {"status": 402, "message": "Payment Required"}
        assert api.chat("hi", model="GigaChat-2").status_code == 200
