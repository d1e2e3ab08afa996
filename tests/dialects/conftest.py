"""What the tests of the dialects share: calls, and official SDK clients that read what a dialect wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from gatewaykit.dialects import OpenAIChat
from gatewaykit.types import Call, Incoming, ModelsRequest, Principal, Request

CallOf = Callable[..., Call]
Client = Callable[..., openai.OpenAI]

REQUEST_ID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


def _incoming(method: str = "POST", path: str = "/v1/chat/completions", **headers: str) -> Incoming:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Incoming(method, path, named, "127.0.0.1", REQUEST_ID)


def _call(incoming: Incoming, request: Request, dialect: str) -> Call:
    return Call(incoming=incoming, principal=Principal("tester"), dialect=dialect, request=request)


@pytest.fixture(scope="session")
def incoming() -> Callable[..., Incoming]:
    """Make what came in, from a path and headers."""
    return _incoming


@pytest.fixture(scope="session")
def chat_call() -> CallOf:
    """Make a chat call from the fields of a request's JSON."""

    def make(**fields: Any) -> Call:
        document = {"model": "asked-for", "messages": [{"role": "user", "content": "Hi"}], **fields}
        incoming = _incoming()
        return _call(incoming, OpenAIChat().decode(incoming, msgspec.json.encode(document)), "openai_chat")

    return make


@pytest.fixture(scope="session")
def models_call() -> CallOf:
    """Make a call for the list of models, or for one of them."""

    def make(model: str = "") -> Call:
        return _call(_incoming("GET", "/v1/models"), ModelsRequest(model=model), "openai_models")

    return make


@pytest.fixture(scope="session")
def sdk() -> Client:
    """Make an official client whose every request is answered with these bytes."""

    def make(body: bytes, *, status: int = 200, stream: bool = False) -> openai.OpenAI:
        kind = "text/event-stream" if stream else "application/json"

        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(status, headers={"content-type": kind}, content=body)

        transport = httpx2.MockTransport(answer)
        return openai.OpenAI(
            api_key="test", base_url="http://gateway/v1", max_retries=0, http_client=httpx2.Client(transport=transport)
        )

    return make
