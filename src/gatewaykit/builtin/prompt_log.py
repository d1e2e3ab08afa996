"""Prompts and answers in a file of their own, for those who must keep them. Nothing is kept unless ``file`` is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.hookspecs import hookimpl
from gatewaykit.logs import LineWriter, Redactor, RotatingFile, encode_line, secrets_in
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import LOG_DROPPED, REASON
from gatewaykit.protocols import AroundCall, GatewayContext, Observer, Proceed
from gatewaykit.settings import Days, Rotation, Section
from gatewaykit.stepping import closing
from gatewaykit.types import (
    Call,
    CallRecord,
    ChatRequest,
    Event,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)

_TIDY = 3600.0
"""Seconds between two looks for what is too old."""


class PromptRotation(Rotation):
    """As for other logs, but kept for a shorter time."""

    keep_days: Days = Field(default=7, description="Days that files which were put aside are kept; 0 for ever.")


class PromptLogSettings(Section):
    """Prompts and answers, word for word. They may be personal data: think of who may read them, and for how long."""

    section = "prompt_log"

    file: Path | None = Field(
        None,
        description="Write them to this file, which only its owner may read (mode 0600). Unset: they are not kept.",
    )
    rotation: PromptRotation = Field(
        default=PromptRotation(), description="When `file` is put aside, and how long such files are kept."
    )


class Conversation(msgspec.Struct):
    """One call and what was answered until now."""

    call: Call
    events: list[Event] = msgspec.field(default_factory=list)


class PromptTap(AroundCall):
    """Remembers what is said on a call's way, as the client gets it, in the call's own state."""

    name = "prompt-log"
    tier = -100

    async def around(self, call: Call, proceed: Proceed) -> AsyncIterator[Event]:
        """Pass every event on."""
        conversation = Conversation(call)
        if isinstance(call.request, ChatRequest):
            call.state[self.name] = conversation
        async with closing(proceed(call)) as events:
            async for event in events:
                conversation.events.append(event)
                yield event


class PromptLog(Observer):
    """Writes it down when the call is on record, off the client's time."""

    name = "prompt-log"

    def __init__(self, file: RotatingFile, redact: Redactor) -> None:
        self._file = file
        self._writer = LineWriter(file)
        self._redact = redact
        self._lines: list[bytes] = []

    def record(self, record: CallRecord) -> None:
        """Keep one conversation for :meth:`flush`."""
        conversation = record.state.get(PromptTap.name)
        if isinstance(conversation, Conversation):
            self._lines.append(encode_line(self._document(conversation)))

    def flush(self) -> None:
        """Write what was said since."""
        lines, self._lines = self._lines, []
        if lines:
            self._writer.write(lines)

    def _document(self, conversation: Conversation) -> dict[str, Any]:
        call = conversation.call
        answered = [attempt.target for attempt in call.attempts if attempt.error is None]
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": "conversation",
            "request_id": call.request_id,
            "trace_id": call.incoming.trace_id,
            "key_id": call.principal.id,
            "owner": call.principal.owner or None,
            "dialect": call.dialect,
            "target": str(answered[-1]) if answered else None,
            "request": self._redact.value(_readable(call.body)),
            "answer": self._redact.value(_answer(conversation.events)),
        }

    def readings(self) -> Iterator[Reading]:
        """How many conversations were lost."""
        yield Reading(LOG_DROPPED, sum(self._writer.dropped.values()), {REASON: "prompts"})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Refuse to start where nothing could be written; until its end nothing is kept for longer than it may be."""
        try:
            self._file.check()
        except OSError as error:
            raise ConfigError([ConfigFault(f"cannot be written: {error.strerror}", "prompt_log.file")]) from None
        keeping = asyncio.create_task(self._keep_to_time(), name="gatewaykit-prompt-log")
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep_to_time(self) -> None:
        """A gateway that nobody asks writes nothing, and what it wrote grows old all the same."""
        while True:
            with suppress(OSError):
                await asyncio.to_thread(self._file.tidy)
            await asyncio.sleep(_TIDY)


def _readable(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def _answer(events: Iterable[Event]) -> dict[str, str]:
    """What was said, by kind; bytes that passed unread as they are."""
    said: dict[str, list[str]] = {}
    for event in events:
        match event:
            case TextDelta():
                said.setdefault("text", []).append(event.text)
            case ReasoningDelta():
                said.setdefault("reasoning", []).append(event.text)
            case RefusalDelta():
                said.setdefault("refusal", []).append(event.text)
            case ToolCallDelta():
                name = f"\n{event.name} " if event.name else ""
                said.setdefault("tool_calls", []).append(name + event.arguments)
            case Raw():
                said.setdefault("raw", []).append(event.data.decode("utf-8", "backslashreplace"))
    return {kind: "".join(pieces).strip("\n") for kind, pieces in said.items()}


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[prompt_log]``."""
    return [PromptLogSettings]


@hookimpl
def gateway_observers(gateway: GatewayContext) -> Iterable[Observer]:
    """Who writes."""
    settings = gateway.settings.get(PromptLogSettings)
    if settings.file is None:
        return []
    known = secrets_in(getattr(gateway.settings, "sections", {}))
    return [PromptLog(RotatingFile(settings.file, settings.rotation, mode=0o600), Redactor(known))]


@hookimpl
def gateway_around_calls(gateway: GatewayContext) -> Iterable[AroundCall]:
    """Who listens."""
    return [] if gateway.settings.get(PromptLogSettings).file is None else [PromptTap()]
