"""The provider passes the contract that every provider has to pass."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from pydantic import SecretStr

from gatewaykit.protocols import Provider
from gatewaykit.testing import ProviderContract, UpstreamAnswer, UpstreamRequest
from gatewaykit.types import ToolCall
from gatewaykit_openai.provider import OpenAICompatible
from gatewaykit_openai.settings import Upstream

HEAD = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "test-model"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


def _answer(message: dict[str, object], reason: str) -> UpstreamAnswer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return UpstreamAnswer.of_json({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE})


def _stream(deltas: Sequence[dict[str, object]], reason: str) -> UpstreamAnswer:
    head = {**HEAD, "object": "chat.completion.chunk"}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return UpstreamAnswer.of_events([*chunks, last, {**head, "choices": [], "usage": USAGE}])


def _is_streamed(request: UpstreamRequest) -> bool:
    return bool(msgspec.json.decode(request.body).get("stream"))


class TestOpenAICompatible(ProviderContract):
    """An upstream that answers as OpenAI does."""

    secrets = ("sk-canary-5f0c9d2e7b1a48c6", "org-canary-77aa01")

    def provider(self, base_url: str) -> Provider:
        return OpenAICompatible(
            "openai",
            Upstream(
                base_url=f"{base_url}/v1", api_key=SecretStr(self.secrets[0]), organization=SecretStr(self.secrets[1])
            ),
        )

    def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
        if _is_streamed(request):
            return _stream([{"content": piece} for piece in pieces], "stop")
        return _answer({"content": "".join(pieces)}, "stop")

    def upstream_tool_call(self, call: ToolCall, request: UpstreamRequest) -> UpstreamAnswer:
        called = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        if not _is_streamed(request):
            return _answer({"content": None, "tool_calls": [called]}, "tool_calls")
        half = len(call.arguments) // 2
        begun = {**called, "index": 0, "function": {"name": call.name, "arguments": call.arguments[:half]}}
        rest = {"index": 0, "function": {"arguments": call.arguments[half:]}}
        return _stream([{"tool_calls": [begun]}, {"tool_calls": [rest]}], "tool_calls")
