"""A server that speaks OpenAI's chat format; its answers follow from the request, its faults from the prompt.

What the last user message holds decides, as it does in the GigaChat sandbox: ``say N words``; ``[[call]]``, which calls
every function that is offered; ``[[upstream: FAULT]]`` with a word of :data:`FAULTS` or a status. A tool's result is
told back, a JSON schema gets a document, anything else is echoed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from gatewaykit.testing import Step, UpstreamAnswer, UpstreamRequest

CREDENTIAL = "sk-canary-upstream-0a1b2c3d4e5f6071"
MODELS = ("gpt-sandbox", "gpt-small")
WORDS_PER_CHUNK = 2

_FAULT = re.compile(r"\[\[upstream: ([a-z0-9-]+)\]\]")
_SAY = re.compile(r"say (\d+) words")

Script = list[bytes | Step]


def serve(request: UpstreamRequest) -> Script:
    """What to do with one request."""
    if request.headers.get("authorization") != f"Bearer {CREDENTIAL}":
        return _refused(401, f"Incorrect API key provided: {request.headers.get('authorization')}").script()
    if request.path == "/v1/models":
        listed = [{"id": name, "object": "model", "created": 1, "owned_by": "upstream"} for name in MODELS]
        return UpstreamAnswer.of_json({"object": "list", "data": listed}).script()
    body = request.json()
    if body["model"] not in MODELS:
        return _refused(404, f"The model {body['model']} does not exist", "model_not_found").script()
    answer = (
        UpstreamAnswer.of_events(_chunks(body)) if body.get("stream") else UpstreamAnswer.of_json(_completion(body))
    )
    fault = _FAULT.search(_asked(body))
    return _faulty(fault[1], answer) if fault else answer.script()


def _refused(status: int, message: str, code: str | None = None, **headers: str) -> UpstreamAnswer:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return UpstreamAnswer.of_json({"error": error}, status, **headers)


# answers


def _asked(body: dict[str, Any]) -> str:
    """The text of the last user message."""
    content = next((each["content"] for each in reversed(body["messages"]) if each["role"] == "user"), "")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _text(body: dict[str, Any]) -> str:
    last, asked = body["messages"][-1], _asked(body)
    if last["role"] == "tool":
        results = [each["content"] for each in body["messages"] if each["role"] == "tool"]
        return f"The tools returned: {' | '.join(results)}"
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return '{"name":"Казань","population":1308660}'
    if said := _SAY.search(asked):
        return " ".join(f"word{number}" for number in range(1, int(said[1]) + 1))
    return f"You wrote: {asked}"


def _calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    if body["messages"][-1]["role"] == "tool" or "[[call]]" not in _asked(body):
        return []
    functions = [tool["function"] for tool in body.get("tools") or ()]
    return [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": function["name"], "arguments": '{"city":"Казань"}'},
        }
        for number, function in enumerate(functions, 1)
    ]


def _usage(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_tokens": 7,
        "completion_tokens": len(_text(body).split()),
        "total_tokens": 7 + len(_text(body).split()),
    }


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    calls = _calls(body)
    message = {"role": "assistant", "content": None if calls else _text(body), "refusal": None}
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": message | ({"tool_calls": calls} if calls else {}),
                "logprobs": None,
                "finish_reason": "tool_calls" if calls else "stop",
            }
        ],
        "usage": _usage(body),
        "x_unknown": "passes through",
    }


def _chunks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]}

    head = {
        "id": "chatcmpl-upstream",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": body["model"],
    }
    yield chunk({"role": "assistant", "content": "", "refusal": None})
    calls = _calls(body)
    for index, call in enumerate(calls):
        yield chunk({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]})
        for letter in call["function"]["arguments"]:
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": letter}}]})
    for piece in () if calls else re.findall(rf"(?:\S+\s*){{1,{WORDS_PER_CHUNK}}}", _text(body)):
        yield chunk({"content": piece})
    yield chunk({}, "tool_calls" if calls else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(body)}


# faults

_HTML = UpstreamAnswer(
    (b"<html><h1>502 Bad Gateway</h1>nginx at 10.11.12.13</html>",), 502, {"content-type": "text/html"}
)
_BROKEN_CHUNK = b'data: {"choices": [{]\n\n'
_ERROR_CHUNK = b'data: {"error":{"message":"overloaded at http://10.11.12.13/","type":"server_error","code":null}}\n\n'


def _begun(script: Script, *rest: bytes | Step) -> Script:
    """A stream without its last chunks, or the first half of a document, and then ``rest``."""
    if b"event-stream" in script[0]:
        return [*script[: max(4, len(script) - 100)], *rest]
    return [script[0], b"%x\r\n%b" % (len(script[1]), script[1][: len(script[1]) // 2]), *rest]


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


FAULTS: dict[str, Callable[[Script], Script]] = {
    "html": lambda script: _HTML.script(),
    "silent": lambda script: [Step.HOLD],
    "silent-after-head": lambda script: [script[0], Step.HOLD],
    "close": lambda script: [Step.CLOSE],
    "reset": lambda script: [Step.RESET],
    "not-http": lambda script: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Step.CLOSE],
    "empty": lambda script: [script[0], b"0\r\n\r\n"],
    "garbage": lambda script: [script[0], _chunked(b"\x00\xff<garbage>\n\n"), b"0\r\n\r\n"],
    "close-midway": lambda script: _begun(script, Step.CLOSE),
    "reset-midway": lambda script: _begun(script, Step.RESET),
    "stall-midway": lambda script: _begun(script, Step.HOLD),
    "garbage-midway": lambda script: _begun(script, _chunked(_BROKEN_CHUNK), b"0\r\n\r\n"),
    "error-midway": lambda script: _begun(script, _chunked(_ERROR_CHUNK), b"0\r\n\r\n"),
    "half-line": lambda script: _begun(script, _chunked(b'data: {"choices": [{"ind'), b"0\r\n\r\n"),
    "ends-early": lambda script: _begun(script, b"0\r\n\r\n"),
    "bad-chunk": lambda script: _begun(script, b"zz\r\nnonsense\r\n", Step.CLOSE),
    "no-done": lambda script: [*script[:-2], script[-1]],
    "in-crumbs": lambda script: [bytes([byte]) for step in script for byte in step],
}
"""What may go wrong, by its word."""


def _faulty(word: str, answer: UpstreamAnswer) -> Script:
    if word.isdigit():
        return _refused(int(word), f"Refused by {CREDENTIAL} at http://10.11.12.13/", retry_after="7").script()
    return FAULTS[word](answer.script())
