"""The provider in a gateway, with a client in front."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from gatewaykit.testing.contract.base import TEXT, ContractBase, in_a_loop
from gatewaykit.testing.doubles import plugin_of
from gatewaykit.testing.gateways import gateway_client, make_gateway
from gatewaykit.testing.stage import held_at_once
from gatewaykit.testing.waiting import until


class ServingTests(ContractBase):
    """From one socket to the other."""

    @pytest.mark.parametrize("stream", [True, False])
    @in_a_loop
    async def test_answers_through_a_gateway(self, stream: bool) -> None:
        """A client of OpenAI's API gets the provider's text through a gateway, over sockets."""
        async with (
            self._upstream(self._says()) as upstream,
            gateway_client(make_gateway(plugin_of(providers=[self._provider_at(upstream)]))) as client,
        ):
            response = await client.post("/v1/chat/completions", json=_chat_document(self.model, stream=stream))
            assert response.status_code == 200, response.text
            text = _text_of(response.text, stream=stream)
            assert text
            if not self.without_upstream:
                assert text == "".join(TEXT)

    @in_a_loop
    async def test_a_slow_upstream_is_cut_by_the_gateway(self) -> None:
        """The gateway's limit for the first event ends the call with 504 and closes the upstream."""
        self._needs_upstream()
        async with self._upstream(held_at_once(self._says())) as upstream:
            plugin = plugin_of(providers=[self.provider(upstream.url)])
            gateway = make_gateway(plugin, timeouts={"first_event": 0.3, "whole_call": 3.0})
            async with gateway_client(gateway) as client:
                response = await client.post("/v1/chat/completions", json=_chat_document(self.model, stream=True))
                assert response.status_code == 504, response.text
                assert response.json()["error"]["code"] == "provider_timeout"
                await until(lambda: upstream.held == 0, self.close_within, "the connection to the upstream is closed")


def _chat_document(model: str, *, stream: bool) -> dict[str, Any]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}


def _text_of(body: str, *, stream: bool) -> str:
    """The text in an answer of OpenAI's chat API."""
    if not stream:
        return cast("str", msgspec.json.decode(body)["choices"][0]["message"]["content"])
    frames = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]", body
    choices = [choice for frame in frames[:-1] for choice in msgspec.json.decode(frame)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
