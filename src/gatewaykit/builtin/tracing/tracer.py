"""Writes the spans of a call when it is over: one for the request, one for each attempt at a provider."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from gatewaykit import chance
from gatewaykit.builtin.tracing.places import MOST_CHARACTERS, STATE, Place
from gatewaykit.builtin.tracing.settings import TracingSettings
from gatewaykit.logs import Redactor
from gatewaykit.protocols import Observer
from gatewaykit.tracecontext import trace_id
from gatewaykit.types import Call, CallRecord, ChatRequest

if TYPE_CHECKING:
    from gatewaykit.builtin.tracing.export import Exporting

CAPACITY = 10_000
"""Records that may wait for their spans; what comes on top gets none."""


class Tracer(Observer):
    """OpenTelemetry's side is imported and opened when the gateway starts, in the process that serves."""

    name = "tracing"

    def __init__(self, settings: TracingSettings, scheme: str, redact: Redactor) -> None:
        self._settings = settings
        self._redact = redact
        self._scheme = scheme
        self._records: deque[CallRecord] = deque(maxlen=CAPACITY)
        self._turn = threading.Lock()
        self._users = 0
        self._exporting: Exporting | None = None
        self.trace_id = trace_id

    def span_id(self) -> int:
        """A new one."""
        return chance.bits(64) or 1

    def place(self, call: Call) -> Place:
        """Where a call is that had no place yet."""
        exporting, incoming = self._exporting, call.incoming
        parent = incoming.headers.get("traceparent")
        sampled = exporting is not None and exporting.samples(parent, incoming.request_id, incoming.method)
        request = call.request
        if not sampled or not isinstance(request, ChatRequest):
            return Place(self.span_id(), sampled, {})
        return Place(self.span_id(), sampled, asked(request, content=self._settings.content))

    def seal(self, record: CallRecord) -> None:
        """Take one record."""
        self._records.append(record)

    def record(self, record: CallRecord) -> None:
        """In the observers' thread: write the spans of all that wait."""
        self._write()

    def _write(self) -> None:
        exporting = self._exporting
        with self._turn, suppress(IndexError):
            while exporting is not None:
                record = self._records.popleft()
                exporting.write(record, record.state.get(STATE))

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Spans leave until its end."""
        await asyncio.to_thread(self._enter)
        try:
            yield
        finally:
            await asyncio.to_thread(self._leave)

    def _enter(self) -> None:
        self._users += 1
        if self._exporting is None:
            from gatewaykit.builtin.tracing.export import Exporting

            self._exporting = Exporting(self._settings, self._scheme, self._redact)

    def _leave(self) -> None:
        self._users -= 1
        if self._users or self._exporting is None:
            return
        self._write()
        exporting, self._exporting = self._exporting, None
        exporting.close()


def asked(request: ChatRequest, *, content: bool) -> dict[str, str | int | float | bool]:
    """What the client asked for, by the conventions' names; what it said only with ``content``."""
    given: dict[str, str | int | float | None] = {
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.top_p": request.top_p,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.seed": request.seed,
        "gen_ai.input.messages": _said(request) if content else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _said(request: ChatRequest) -> str:
    """The conversation as JSON, text alone, cut where it becomes too long."""
    room, messages = MOST_CHARACTERS, []
    for message in request.messages:
        text = message.text[:room]
        room -= len(text)
        messages.append({"role": message.role, "parts": [{"type": "text", "content": text}]})
    return msgspec.json.encode(messages).decode()
