"""A running sandbox, providers that talk to it, and calls to make."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from loguru import logger
from msgspec import structs

from gatewaykit.logs import Intercept
from gatewaykit.testing import one_by_one
from gatewaykit.types import Call, ChatRequest, Event, Incoming, Message, Principal, Target
from gatewaykit_gigachat.provider import GigaChat
from gatewaykit_gigachat.sandbox import B2B, RunningSandbox, SandboxSettings, TlsFiles, running_sandbox
from gatewaykit_gigachat.settings import GigaChatSettings

MODEL = Target("gigachat", "GigaChat-2-Max")


class Bench:
    """One sandbox and the providers that talk to it."""

    def __init__(self, sandbox: RunningSandbox) -> None:
        self.sandbox = sandbox
        self.opened: list[GigaChat] = []

    def settings(self, **fields: Any) -> GigaChatSettings:
        """Settings that lead to the sandbox; waits between retries are short."""
        known = {
            "base_url": self.sandbox.base_url,
            "auth_url": self.sandbox.auth_url,
            "retry_backoff_factor": 0.001,
        }
        return GigaChatSettings(**{**known, **fields})

    def provider(self, **fields: Any) -> GigaChat:
        """A provider with an authorization key for ten parallel requests, or as the fields say."""
        if not fields.keys() & {"access_token", "user", "credentials", "cert_file"}:
            fields |= {"credentials": self.sandbox.key(B2B), "scope": B2B}
        provider = GigaChat(self.settings(**fields))
        self.opened.append(provider)
        return provider

    @staticmethod
    def call(text: str = "say 9 words", *, tenant: str = "tenant", headers: str = "request-1", **chat: Any) -> Call:
        """A call of one user message; other fields are those of the chat request."""
        request = ChatRequest(MODEL.model, chat.pop("messages", (Message("user", text),)), **chat)
        incoming = Incoming("POST", "/v1/chat/completions", {}, "127.0.0.1", headers)
        return Call(incoming, Principal(f"id-of-{tenant}", tenant=tenant), "openai_chat", request)

    async def events(self, provider: GigaChat, call: Call) -> list[Event]:
        """All events of a streamed answer."""
        streamed = structs.replace(call.chat, stream=True)
        call.request = streamed
        return [event async for event in one_by_one(provider.stream(call, MODEL))]

    @staticmethod
    async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until ``condition`` holds; fails when it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            await asyncio.sleep(0.005)


@pytest.fixture
def sandbox_settings() -> SandboxSettings:
    """The sandbox's settings; a test may give others by parametrization."""
    return SandboxSettings()


@pytest.fixture
def tls() -> TlsFiles | None:
    """The sandbox's certificate; without one it speaks plain HTTP."""
    return None


@pytest.fixture
def sandbox(sandbox_settings: SandboxSettings, tls: TlsFiles | None) -> Iterator[RunningSandbox]:
    """A sandbox of the test's own."""
    with running_sandbox(sandbox_settings, tls=tls) as running:
        yield running


@pytest.fixture
async def bench(sandbox: RunningSandbox) -> AsyncIterator[Bench]:
    """The sandbox with providers, which are closed in the end."""
    made = Bench(sandbox)
    yield made
    for provider in made.opened:
        await provider.aclose()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged while the test runs, tracebacks and local variables included."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level=0, backtrace=True, diagnose=True)
    handler = Intercept()
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    logger.remove(sink)
