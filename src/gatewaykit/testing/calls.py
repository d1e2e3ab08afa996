"""Calls as a provider receives them, without a gateway."""

from __future__ import annotations

from typing import Any

from gatewaykit.folding import one_by_one
from gatewaykit.types import Call, ChatRequest, Incoming, Message, Principal


def make_call(text: str = "Hello", *, model: str = "test-model", tenant: str = "tests", **request: Any) -> Call:
    """A streamed chat call of one user message, ``text``.

    ``request`` are fields of :class:`~gatewaykit.types.ChatRequest` and stronger: ``stream=False``, ``tools=(…,)``,
    ``messages=(…,)``. The call's bytes may not pass unread: ``raw_dialect`` is ``None``.
    """
    fields: dict[str, Any] = {"messages": (Message("user", text),), "stream": True, **request}
    incoming = Incoming("POST", "/v1/chat/completions", {}, "127.0.0.1", "test-request")
    return Call(incoming, Principal(tenant), "openai_chat", ChatRequest(model, **fields))


__all__ = ["make_call", "one_by_one"]
