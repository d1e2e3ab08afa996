"""An upstream that talks like Ollama, and names the model it was asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gatewaykit.testing import Step, Upstream, UpstreamAnswer, UpstreamRequest


@pytest.fixture
async def ollama_address() -> AsyncIterator[str]:
    def answer(request: UpstreamRequest) -> list[bytes | Step]:
        line = {"message": {"content": f"Hello from {request.json()['model']}"}, "done": True, "done_reason": "stop"}
        return UpstreamAnswer.of_lines([line]).script()

    async with Upstream(answer) as upstream:
        yield upstream.url
