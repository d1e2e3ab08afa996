"""The provider keeps the contract of all providers: with an authorization key, and with a ready token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gatewaykit.testing import ProviderContract, UpstreamAnswer, UpstreamRequest
from gatewaykit.types import ToolCall
from gatewaykit_gigachat.provider import GigaChat
from gatewaykit_gigachat.settings import GigaChatSettings

USAGE = {"prompt_tokens": 17, "completion_tokens": 3, "total_tokens": 20, "precached_prompt_tokens": 2}
KEY = "Y2FuYXJ5LWNsaWVudDpjYW5hcnktc2VjcmV0"
TOKEN = "canary-token-" + "0123456789" * 9


class TestWithAuthorizationKey(ProviderContract):
    """The token comes from the same upstream, beside the model calls."""

    secrets = (KEY, TOKEN)
    base_path = "/api/v1"

    def provider(self, base_url: str) -> GigaChat:
        return GigaChat(
            GigaChatSettings(
                base_url=base_url + self.base_path,
                auth_url=base_url + "/api/v2/oauth",
                credentials=KEY,
                parallel=0,
                max_retries=0,
            )
        )

    def upstream_text(self, pieces: Sequence[str], request: UpstreamRequest) -> UpstreamAnswer:
        if not request.json()["stream"]:
            return self._whole({"content": "".join(pieces), "role": "assistant"}, "stop")
        deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
        deltas[0]["role"] = "assistant"
        return self._events([*deltas, {"content": ""}], "stop")

    def upstream_tool_call(self, call: ToolCall, request: UpstreamRequest) -> UpstreamAnswer:
        message = {
            "content": "",
            "role": "assistant",
            "function_call": {"name": call.name, "arguments": msgspec.json.decode(call.arguments)},
            "functions_state_id": "77d3fb14-457a-46ba-937e-8d856156d003",
        }
        if request.json()["stream"]:
            return self._events([message], "function_call")
        return self._whole(message, "function_call")

    def upstream_error(self, status: int, message: str, request: UpstreamRequest) -> UpstreamAnswer:
        return UpstreamAnswer.of_json({"status": status, "message": message}, status)

    def upstream_aside(self, request: UpstreamRequest) -> UpstreamAnswer | None:
        if request.path.endswith("/oauth"):
            ends = int((time.time() + 1800) * 1000)
            return UpstreamAnswer.of_json({"access_token": TOKEN, "expires_at": ends})
        if request.path.endswith("/models"):
            entry = {"id": "test-model", "object": "model", "owned_by": "salutedevices", "type": "chat"}
            return UpstreamAnswer.of_json({"object": "list", "data": [entry]})
        return None

    def _whole(self, message: dict[str, Any], reason: str) -> UpstreamAnswer:
        choice = {"message": message, "index": 0, "finish_reason": reason}
        return UpstreamAnswer.of_json({"choices": [choice], **self._rest(), "usage": USAGE})

    def _events(self, deltas: list[dict[str, Any]], reason: str) -> UpstreamAnswer:
        documents = [{"choices": [{"delta": delta, "index": 0}], **self._rest()} for delta in deltas]
        last: Any = documents[-1]
        last["choices"][0]["finish_reason"] = reason
        last["usage"] = USAGE
        return UpstreamAnswer.of_events(documents)

    @staticmethod
    def _rest() -> dict[str, Any]:
        return {"created": 1768996176, "model": "GigaChat:2.0.28.2", "object": "chat.completion"}


class TestWithReadyToken(TestWithAuthorizationKey):
    """No token is fetched, and a refused one is not replaced."""

    secrets = (TOKEN,)
    base_path = "/v1"

    def provider(self, base_url: str) -> GigaChat:
        return GigaChat(GigaChatSettings(base_url=base_url + self.base_path, access_token=TOKEN, max_retries=0))
