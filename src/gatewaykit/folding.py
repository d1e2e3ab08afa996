"""Between a stream of events and an answer in one piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence

from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.stepping import closing
from gatewaykit.types import (
    Batch,
    Choice,
    EmbeddingList,
    Event,
    Finished,
    ModelList,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)


def spread(event: Event) -> Sequence[Event]:
    """The events of a batch, or the event alone."""
    return event.events if isinstance(event, Batch) else (event,)


class Folder:
    """Collects events; :meth:`reply` gives the answer that they add up to."""

    def __init__(self) -> None:
        self._reply = Reply()
        self._texts: dict[tuple[int, str], list[str]] = {}
        self._calls: dict[tuple[int, int], tuple[list[str], ToolCallDelta]] = {}
        self._logprobs: dict[int, list[object]] = {}
        self._reasons: dict[int, Finished] = {}

    def add(self, event: Event) -> None:
        """Take one more event."""
        match event:
            case TextDelta():
                self._say(event.choice, "text", event.text)
                if event.logprobs is not None:
                    self._logprobs.setdefault(event.choice, []).append(event.logprobs)
            case ReasoningDelta():
                self._say(event.choice, "reasoning", event.text)
            case RefusalDelta():
                self._say(event.choice, "refusal", event.text)
            case ToolCallDelta():
                self._call(event)
            case Finished():
                self._reasons[event.choice] = event
            case Usage():
                self._reply.usage = event
            case Started():
                self._reply.model, self._reply.id = event.model, event.id
                self._reply.created, self._reply.ignored = event.created, event.ignored
            case Raw():
                self._reply.raw = event.data
            case ModelList():
                self._reply.models = event.models
            case EmbeddingList():
                self._reply.vectors = event.vectors

    def reply(self) -> Reply:
        """The whole answer. Raises :class:`~gatewaykit.errors.ProviderBadAnswer` when no choice was finished."""
        reply = self._reply
        if reply.raw is None and reply.models is None and reply.vectors is None and not self._reasons:
            raise ProviderBadAnswer(detail="the stream ended without a finish reason")
        reply.choices = [self._choice(index) for index in sorted(self._reasons)]
        return reply

    def _say(self, choice: int, kind: str, text: str) -> None:
        self._texts.setdefault((choice, kind), []).append(text)

    def _call(self, event: ToolCallDelta) -> None:
        arguments, whole = self._calls.setdefault((event.choice, event.index), ([], ToolCallDelta(event.index)))
        arguments.append(event.arguments)
        whole.id, whole.name = whole.id or event.id, whole.name or event.name

    def _choice(self, index: int) -> Choice:
        calls = sorted(key for key in self._calls if key[0] == index)
        return Choice(
            index=index,
            text=self._text(index, "text"),
            reasoning=self._text(index, "reasoning"),
            refusal=self._text(index, "refusal"),
            tool_calls=[
                ToolCall(whole.id, whole.name, "".join(arguments))
                for arguments, whole in (self._calls[key] for key in calls)
            ],
            finish_reason=self._reasons[index].reason,
            logprobs=_joined(self._logprobs.get(index)),
        )

    def _text(self, index: int, kind: str) -> str:
        return "".join(self._texts.get((index, kind), ()))


def _joined(pieces: list[object] | None) -> object:
    """Log probabilities in OpenAI's shape: the lists of all pieces, one behind the other."""
    if not pieces:
        return None
    joined: dict[str, object] = {}
    for piece in pieces:
        if not isinstance(piece, dict):
            return pieces[-1]
        for key, value in piece.items():
            before = joined.get(key)
            joined[key] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return joined


async def one_by_one(events: AsyncIterator[Event]) -> AsyncGenerator[Event, None]:
    """The same events, with those of a :class:`~gatewaykit.types.Batch` one after the other; closes ``events``."""
    async with closing(events):
        async for arrived in events:
            for event in spread(arrived):
                yield event


async def fold(events: AsyncIterator[Event]) -> Reply:
    """The answer that a whole stream adds up to."""
    folder = Folder()
    async for arrived in events:
        for event in spread(arrived):
            if not isinstance(event, Event):
                raise ProviderBadAnswer(detail=f"{type(event).__name__} is no event")
            folder.add(event)
    return folder.reply()


def unfold(reply: Reply) -> Iterator[Event]:
    """The events that add up to ``reply``."""
    yield Started(reply.model, reply.id, reply.created, reply.ignored)
    if reply.raw is not None:
        yield Raw(reply.raw)
    elif reply.models is not None:
        yield ModelList(reply.models)
    elif reply.vectors is not None:
        yield EmbeddingList(reply.vectors)
    for choice in reply.choices:
        yield from _unfold_choice(choice)
    if reply.usage is not None:
        yield reply.usage


def _unfold_choice(choice: Choice) -> Iterable[Event]:
    if choice.reasoning:
        yield ReasoningDelta(choice.reasoning, choice.index)
    if choice.text or choice.logprobs is not None:
        yield TextDelta(choice.text, choice.index, choice.logprobs)
    if choice.refusal:
        yield RefusalDelta(choice.refusal, choice.index)
    for index, call in enumerate(choice.tool_calls):
        yield ToolCallDelta(index, call.id, call.name, call.arguments, choice.index)
    yield Finished(choice.finish_reason, choice.index)
