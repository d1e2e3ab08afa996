"""From events to the client: one loop for streams, one fold for answers in one piece.

A stream's response starts with its first event. Events that are at hand without waiting leave in one ``send``. Where a
provider says what came together (``Raw``, ``Batch``), that is one step; else what is encoded is written when the
provider's iterator begins to wait, or when enough has gathered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from gatewaykit.errors import GatewayError, ProviderBadAnswer
from gatewaykit.folding import Folder
from gatewaykit.protocols import Encoder
from gatewaykit.responding import HeaderList, Responder
from gatewaykit.stepping import waited
from gatewaykit.types import (
    Batch,
    Call,
    EmbeddingList,
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
Blame = Callable[[BaseException], BaseException]

KEEPALIVE = b": keep-alive\n\n"
CHARACTERS_PER_TOKEN = 4
_MAX_GATHERED = 256


class Meter:
    """Counts what passes: when it began, how much text there was, what the provider says of its use.

    ``usage`` has tokens that can be counted, or is None; ``miscounted`` says that the provider gave another one.
    """

    __slots__ = ("characters", "first_event", "ignored", "miscounted", "raw", "usage", "whole")

    def __init__(self) -> None:
        self.first_event: float | None = None
        self.characters = 0
        self.usage: Usage | None = None
        self.miscounted = False
        self.whole = False
        self.raw = False
        self.ignored: tuple[str, ...] = ()

    def see(self, event: Event) -> Event | None:
        """Take note of one event from the provider, before any transform. What may pass of it."""
        kind = type(event)
        if self.first_event is None:
            self.first_event = time.monotonic()
        if kind is TextDelta or kind is ReasoningDelta:
            self.characters += len(event.text)  # type: ignore[attr-defined]
        elif isinstance(event, Raw):
            self.pass_on(event)
        elif isinstance(event, Usage):
            return self._use(event)
        elif isinstance(event, Finished | ModelList | EmbeddingList):
            self.whole = True
        elif isinstance(event, ToolCallDelta):
            self.characters += len(event.arguments)
        elif isinstance(event, Started):
            self.ignored = event.ignored
        elif not isinstance(event, Event):
            raise ProviderBadAnswer(detail=f"{kind.__name__} is no event")
        return event

    def _use(self, usage: Usage) -> Usage | None:
        counted = sound(usage)
        if counted is None:
            self.miscounted = True
        else:
            self.usage = counted
        return counted

    def pass_on(self, raw: Raw) -> None:
        """Take note of bytes that pass unread. A provider that passes bytes on answers for their end by raising."""
        if self.first_event is None:
            self.first_event = time.monotonic()
        self.characters += raw.characters
        self.raw = self.whole = True

    def take(self, reply: Reply) -> None:
        """Take note of an answer in one piece."""
        self.first_event = time.monotonic()
        self.ignored = reply.ignored
        if reply.usage is not None:
            reply.usage = self._use(reply.usage)
        for choice in reply.choices:
            self.characters += len(choice.text) + len(choice.reasoning)
            for call in choice.tool_calls:
                self.characters += len(call.arguments)

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


def sound(usage: Usage) -> Usage | None:
    """``usage`` if its figures are numbers of tokens, the whole ones among floats as ints; else None."""
    if _counts(usage):
        return usage
    asked, answered = _whole(usage.input_tokens), _whole(usage.output_tokens)
    mended = Usage(asked, answered, _whole(usage.cached_tokens), _whole(usage.reasoning_tokens), usage.estimated)
    return mended if _counts(mended) else None


def _counts(usage: Usage) -> bool:
    asked, answered = usage.input_tokens, usage.output_tokens
    cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    if type(asked) is type(answered) is type(cached) is type(reasoning) is int:
        return asked >= 0 <= answered and cached >= 0 <= reasoning and type(usage.estimated) is bool
    return False


def _whole(figure: Any) -> Any:
    """What a plugin gives is not always what its types say."""
    return int(figure) if isinstance(figure, float) and figure.is_integer() else figure


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
        seen = meter.see(event)
        passed = seen if on_event is None or seen is None else on_event(call, seen)
        if passed is not None:
            folder.add(passed)
    meter.check_whole()
    return folder.reply()


def _unchanged(cause: BaseException) -> BaseException:
    return cause


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
        self._encode = encoder.encode
        self._gathered: list[bytes] = []
        self._in_blocks = False

    async def run(
        self, events: AsyncIterator[Event], watch: Watch, first: Event | None = None, blame: Blame = _unchanged
    ) -> None:
        """Relay until the end; whatever goes wrong is raised, and then :meth:`fail` tells the client.

        ``first`` is an event that was taken from ``events`` already; ``blame`` says what an error of theirs means.
        """
        self._watch = watch
        step = events.__anext__
        event = first
        while True:
            if event is not None and self._arrived(event):
                await self._flush()
            try:
                if self._in_blocks:
                    event = await step()
                else:
                    awaiting = step().__await__()
                    event = await waited(awaiting, next(awaiting), self._flush)
            except StopIteration as at_hand:
                event = at_hand.value
            except StopAsyncIteration:
                break
            except (Exception, asyncio.CancelledError) as cause:
                if (error := blame(cause)) is cause:
                    raise
                raise error from cause
        await self._finish()

    def _arrived(self, event: Event) -> bool:
        """Encode ``event``. Returns whether that has to leave now."""
        if isinstance(event, Raw):
            self._in_blocks = True
            self._meter.pass_on(event)
            self._gathered.append(event.data)
        elif isinstance(event, Batch):
            self._in_blocks = True
            for inner in event.events:
                self._take(inner)
        else:
            self._take(event)
        return self._in_blocks or len(self._gathered) >= _MAX_GATHERED

    def _take(self, event: Event) -> None:
        seen = self._meter.see(event)
        passed = seen if self._on_event is None or seen is None else self._on_event(self._call, seen)
        # Bytes that pass unread bring their own usage and end: those events are for the record alone.
        if passed is None or (self._meter.raw and not isinstance(passed, Raw)):
            return
        if frame := self._encode(passed):
            self._gathered.append(frame)

    async def _finish(self) -> None:
        meter = self._meter
        meter.check_whole()
        if meter.usage is None and not meter.raw and (usage := meter.final_usage(self._call.body)) is not None:
            self._gathered.append(self._encode(usage))
        self._gathered.append(self._encoder.finish())
        if not self._responder.started:
            await self._responder.start(200, self._headers())
        self._watch.end()
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
        watch, gathered = self._watch, self._gathered
        if not self._responder.started:
            await self._responder.start(200, self._headers())
            watch.flow(*self._limits())
        watch.touch()
        if gathered:
            data = gathered[0] if len(gathered) == 1 else b"".join(gathered)
            gathered.clear()
            watch.last_sent = watch.last_event
            await self._responder.write(data)

    def _limits(self) -> tuple[float | None, float | None]:
        """The answering target's own limits: for pauses, and of what is left for the rest of its answer."""
        if not self._call.attempts:
            return None, None
        target, seconds = self._call.attempts[-1].target, self._call.attempts[-1].seconds
        return target.between_events, None if target.whole_call is None else target.whole_call - seconds

    async def _end(self) -> None:
        await self._responder.end(b"".join(self._gathered))
        self._gathered.clear()
