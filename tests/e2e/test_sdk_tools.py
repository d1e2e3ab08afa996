"""Tools through the official SDK: the model calls, the client answers, the model concludes."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic

from .talking import Talker, text_of, user

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Weather(pydantic.BaseModel):
    """The weather in a city."""

    city: str


async def test_a_round_trip(talker: Talker, model: str) -> None:
    """A call with JSON arguments comes, and its result, in the next request, leads to an answer."""
    question = user("[[call]] What is the weather in Казань?")
    called = await talker.create(model=model, messages=question, tools=[WEATHER])
    assert called.choices[0].finish_reason == "tool_calls"
    message = called.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'}
    history = [*question, message.model_dump(exclude_none=True), result]
    answer = await talker.create(model=model, messages=history, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "stop"
    assert "degrees" in answer.choices[0].message.content


async def test_a_round_trip_in_streams(talker: Talker, model: str) -> None:
    """The same with streams: the pieces of a call add up, and the answer streams too."""
    question = user("[[call]] What is the weather in Казань?")
    chunks: list[Any] = []
    await talker.chunks(chunks, model=model, messages=question, tools=[WEATHER])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["tool_calls"]
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert {piece.index for piece in pieces} == {0}
    assert [piece.function.name for piece in pieces if piece.function.name] == ["weather"]
    arguments = "".join(piece.function.arguments or "" for piece in pieces)
    assert isinstance(json.loads(arguments)["city"], str)
    (identity,) = [piece.id for piece in pieces if piece.id]
    call = {"id": identity, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    history = [
        *question,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": identity, "content": "sunny, 21 °C"},
    ]
    answer: list[Any] = []
    await talker.chunks(answer, model=model, messages=history, tools=[WEATHER])
    assert "sunny, 21 °C" in text_of(answer)


async def test_the_helpers_events_for_tools(talker: Talker, model: str) -> None:
    """The SDK's stream helper tells the growing arguments and parses the finished call."""
    events: list[Any] = []
    final = await talker.events(
        events, model=model, messages=user("[[call]]"), tools=[openai.pydantic_function_tool(Weather, name="weather")]
    )
    kinds = [event.type for event in events]
    assert "tool_calls.function.arguments.delta" in kinds
    assert "tool_calls.function.arguments.done" in kinds
    (call,) = final.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


async def test_parse_with_tools(talker: Talker, model: str) -> None:
    """``parse`` gives the arguments of a call as a pydantic object."""
    answer = await talker.parse(
        model=model, messages=user("[[call]]"), tools=[openai.pydantic_function_tool(Weather, name="weather")]
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


async def test_parallel_calls_in_the_history(talker: Talker, model: str) -> None:
    """A history with two calls in one message and their results in another order is taken by both providers."""

    def call(identity: str, city: str) -> dict[str, Any]:
        arguments = json.dumps({"city": city}, ensure_ascii=False)
        return {"id": identity, "type": "function", "function": {"name": "weather", "arguments": arguments}}

    history = [
        *user("What is the weather in Казань and in Тверь?"),
        {"role": "assistant", "content": None, "tool_calls": [call("one", "Казань"), call("two", "Тверь")]},
        {"role": "tool", "tool_call_id": "two", "content": "rain in Тверь"},
        {"role": "tool", "tool_call_id": "one", "content": '"sun in Казань"'},
    ]
    answer = await talker.create(model=model, messages=history, tools=[WEATHER])
    assert "in Тверь" in answer.choices[0].message.content or "in Казань" in answer.choices[0].message.content
    chunks: list[Any] = []
    await talker.chunks(chunks, model=model, messages=history, tools=[WEATHER])
    assert text_of(chunks) == answer.choices[0].message.content


async def test_several_calls_at_once(talker: Talker, model: str) -> None:
    """Where a model calls several tools, each has an id and an index of its own; GigaChat calls one."""
    clock = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
    answer = await talker.create(model=model, messages=user("[[call]]"), tools=[WEATHER, clock])
    whole = [(call.id, call.function.name) for call in answer.choices[0].message.tool_calls]
    events: list[Any] = []
    final = await talker.events(events, model=model, messages=user("[[call]]"), tools=[WEATHER, clock])
    streamed = final.choices[0].message.tool_calls
    assert [call.function.name for call in streamed] == [name for _, name in whole]
    assert len({identity for identity, _ in whole}) == len(whole) == (1 if model.startswith("GigaChat") else 2)
