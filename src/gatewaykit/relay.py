"""From events to the client: one loop for streams, one fold for answers in one piece.

A stream's response starts with its first event. Events that are at hand without waiting leave in one ``send``: what is
encoded is written when the provider's iterator begins to wait, or when enough has gathered.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence

from gatewaykit.errors import GatewayError, ProviderBadAnswer
from gatewaykit.folding import Folder
from gatewaykit.protocols import Encoder
from gatewaykit.responding import HeaderList, Responder
from gatewaykit.stepping import waited
from gatewaykit.types import (
    Call,
    Event,
    Finished,
    ModelList,
    Raw,
    ReasoningDelta,
    Reply,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gatewaykit.watch import Watch

OnEvent = Callable[[Call, Event], Event | None]
OnReply = Callable[[Call, Reply], Reply]

KEEPALIVE = b": keep-alive\n\n"
CHARACTERS_PER_TOKEN = 4
_MAX_GATHERED = 256


class Meter:
    """Counts what passes: when it began, how much text there was, what the provider says of its use."""

    __slots__ = ("characters", "first_event", "ignored", "raw", "usage", "whole")

    def __init__(self) -> None:
        self.first_event: float | None = None
        self.characters = 0
        self.usage: Usage | None = None
        self.whole = False
        self.raw = False
        self.ignored: tuple[str, ...] = ()

    def see(self, event: Event) -> None:
        """Take note of one event from the provider, before any transform."""
        kind = type(event)
        if self.first_event is None:
            self.first_event = time.monotonic()
        if kind is TextDelta or kind is ReasoningDelta:
            self.characters += len(event.text)  # type: ignore[attr-defined]
        elif isinstance(event, Raw):
            self.characters += event.characters
            # A provider that passes bytes on answers for their end by raising.
            self.raw = self.whole = True
        elif isinstance(event, Usage):
            self.usage = event
        elif isinstance(event, Finished | ModelList):
            self.whole = True
        elif isinstance(event, ToolCallDelta):
            self.characters += len(event.arguments)
        elif isinstance(event, Started):
            self.ignored = event.ignored

    def take(self, reply: Reply) -> None:
        """Take note of an answer in one piece."""
        self.first_event = time.monotonic()
        self.ignored, self.usage = reply.ignored, reply.usage
        for choice in reply.choices:
            self.characters += len(choice.text) + len(choice.reasoning)
            self.characters += sum(len(call.arguments) for call in choice.tool_calls)

    def final_usage(self, body: bytes) -> Usage | None:
        """What the call used, estimated from ``body`` and the text if the provider does not say; ``None`` if
        nothing.
        """
        if self.usage is not None or self.first_event is None:
            return self.usage
        return Usage(
            input_tokens=math.ceil(len(body) / CHARACTERS_PER_TOKEN),
            output_tokens=math.ceil(self.characters / CHARACTERS_PER_TOKEN),
            estimated=True,
        )

    def check_whole(self) -> None:
        """Raise :class:`~gatewaykit.errors.ProviderBadAnswer` if the provider stopped before it finished."""
        if not self.whole:
            raise ProviderBadAnswer(detail="the stream ended without a finish reason")


def fused(hooks: Sequence[OnEvent]) -> OnEvent | None:
    """One function for all ``on_event`` hooks, in order; ``None`` when there is none, so that it costs nothing."""
    if not hooks:
        return None
    if len(hooks) == 1:
        return hooks[0]

    def run(call: Call, event: Event) -> Event | None:
        current: Event | None = event
        for hook in hooks:
            if current is None:
                return None
            current = hook(call, current)
        return current

    return run


async def fold_metered(call: Call, events: AsyncIterator[Event], meter: Meter, on_event: OnEvent | None) -> Reply:
    """The answer that ``events`` add up to, with the transforms applied to each."""
    folder = Folder()
    async for event in events:
        meter.see(event)
        passed = event if on_event is None else on_event(call, event)
        if passed is not None:
            folder.add(passed)
    meter.check_whole()
    return folder.reply()


class StreamRelay:
    """Relays one stream. ``headers`` is asked for when the first event is there, for it may say which target it was."""

    def __init__(
        self,
        call: Call,
        encoder: Encoder,
        responder: Responder,
        meter: Meter,
        on_event: OnEvent | None,
        headers: Callable[[], HeaderList],
    ) -> None:
        self._call = call
        self._encoder = encoder
        self._responder = responder
        self._meter = meter
        self._on_event = on_event
        self._headers = headers
        self._gathered: list[bytes] = []

    async def run(self, events: AsyncIterator[Event], watch: Watch) -> None:
        """Relay until the end; whatever goes wrong is raised, and then :meth:`fail` tells the client."""
        self._watch = watch
        call, on_event, gathered, meter = self._call, self._on_event, self._gathered, self._meter
        encode, see, step = self._encoder.encode, meter.see, events.__anext__
        while True:
            awaiting = step().__await__()
            try:
                event = await waited(awaiting, next(awaiting), self._flush)
            except StopIteration as at_hand:
                event = at_hand.value
            except StopAsyncIteration:
                break
            see(event)
            passed = event if on_event is None else on_event(call, event)
            # Bytes that pass unread bring their own usage and end: those events are for the record alone.
            if passed is None or (meter.raw and not isinstance(passed, Raw)):
                continue
            if frame := encode(passed):
                gathered.append(frame)
                if len(gathered) >= _MAX_GATHERED:
                    await self._flush()
        meter.check_whole()
        if meter.usage is None and not meter.raw and (usage := meter.final_usage(call.body)) is not None:
            gathered.append(encode(usage))
        gathered.append(self._encoder.finish())
        if not self._responder.started:
            await self._responder.start(200, self._headers())
        watch.end()
        await self._end()

    async def fail(self, error: GatewayError) -> None:
        """Report ``error`` in the stream, behind what had come, and close it.

        Nothing is done before the first event: a status line can still say it.
        """
        if self._meter.first_event is None:
            return
        if not self._responder.started:
            await self._responder.start(200, self._headers())
        self._gathered.append(self._encoder.fail(error))
        await self._end()

    async def comment(self) -> None:
        """Tell proxies that the stream is alive."""
        await self._responder.write(KEEPALIVE)

    async def _flush(self) -> None:
        if self._meter.first_event is None:
            return
        if not self._responder.started:
            await self._responder.start(200, self._headers())
            self._watch.flow()
        self._watch.touch()
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._watch.last_sent = self._watch.last_event
            await self._responder.write(data)

    async def _end(self) -> None:
        await self._responder.end(b"".join(self._gathered))
        self._gathered.clear()
