"""Answers of the real service, as they were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatewaykit.sse import DONE, payloads
from gatewaykit.types import ChatRequest, Finished, Message, TextDelta, Usage
from gatewaykit_gigachat.convert import AnswerReader, ConvertOptions, translate

RECORDINGS = Path(__file__).parent.parent / "recordings"
PLAIN = translate(ChatRequest("m", (Message("user", "x"),)), "GigaChat", ConvertOptions(), {})


def recorded(name: str) -> str:
    """The last answer in a cassette."""
    cassette = yaml.safe_load((RECORDINGS / "cassettes" / f"{name}.yaml").read_text(encoding="utf-8"))
    body: str = cassette["interactions"][-1]["response"]["body"]["string"]
    return body


def document(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDINGS / "data" / path).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", ["test_stream_simple", "test_astream_simple"])
def test_recorded_streams(name: str) -> None:
    """A recorded stream gives its text, its reason and its usage."""
    found = payloads(recorded(name).encode())
    assert found.pop() == DONE
    reader = AnswerReader(PLAIN)
    events = [event for data in found for event in reader.read(json.loads(data))] + reader.end()
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(texts) == "".join(json.loads(data)["choices"][0]["delta"]["content"] for data in found)
    assert any(texts)
    assert events[-2] == Finished("stop")
    usage = json.loads(found[-1])["usage"]
    assert events[-1] == Usage(usage["prompt_tokens"], usage["completion_tokens"], usage["precached_prompt_tokens"])


@pytest.mark.parametrize("name", ["test_chat_simple", "test_achat_simple", "test_chat_parse_json_schema"])
def test_recorded_answers(name: str) -> None:
    """A recorded answer gives its text, its model's build and its usage."""
    raw = json.loads(recorded(name))
    reply = AnswerReader(PLAIN).reply(raw)
    assert reply.choices[0].text == raw["choices"][0]["message"]["content"]
    assert reply.model == raw["model"]
    assert reply.usage is not None
    assert reply.usage.total_tokens == raw["usage"]["total_tokens"]


def test_a_sample_call() -> None:
    """The sample of a function call gives a tool call with the arguments as JSON text."""
    reply = AnswerReader(PLAIN).reply(document("chat_completion_function.json"))
    (call,) = reply.choices[0].tool_calls
    assert (call.name, call.arguments) == ("fc", '{"location":"Москва","num_days":0}')
    assert reply.choices[0].finish_reason == "tool_calls"
