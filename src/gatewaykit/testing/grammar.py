"""What a sequence of events has to look like, for the gateway relies on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gatewaykit.types import (
    Event,
    Finished,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)


def check_events(events: Sequence[Event]) -> None:
    """Raise :class:`AssertionError`, saying what is wrong, unless ``events`` are one whole, well-formed stream."""
    for problem in _problems(events):
        raise AssertionError(problem)


def _problems(events: Sequence[Event]) -> Iterator[str]:
    started = [position for position, event in enumerate(events) if isinstance(event, Started)]
    if any(started):
        yield f"Started may only be the first event, and it is number {started[-1] + 1}"
    finished = [event.choice for event in events if isinstance(event, Finished)]
    if not finished and not any(isinstance(event, Raw) for event in events):
        yield "the stream has no Finished: the gateway takes it for broken off"
    if len(set(finished)) != len(finished):
        yield "a choice is Finished twice"
    yield from _afterthoughts(events)
    yield from _tool_calls(events)
    yield from _usage(events)


def _afterthoughts(events: Sequence[Event]) -> Iterator[str]:
    over: set[int] = set()
    for event in events:
        if isinstance(event, Finished):
            over.add(event.choice)
        elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta) and event.choice in over:
            yield f"{type(event).__name__} follows Finished in choice {event.choice}"


def _tool_calls(events: Sequence[Event]) -> Iterator[str]:
    arguments: dict[tuple[int, int], list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            key = (event.choice, event.index)
            if key not in arguments and not (event.id and event.name):
                yield f"tool call {event.index} begins without id or name"
            arguments.setdefault(key, []).append(event.arguments)
    for (_, index), pieces in arguments.items():
        if not isinstance(_json("".join(pieces)), dict):
            yield f"the arguments of tool call {index} are not the text of a JSON object"


def _usage(events: Sequence[Event]) -> Iterator[str]:
    usages = [event for event in events if isinstance(event, Usage)]
    if len(usages) > 1:
        yield "Usage comes more than once"
    if not usages:
        return
    usage = usages[0]
    if events[-1] is not usage:
        yield "Usage is not the last event"
    counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    if any(type(number) is not int or number < 0 for number in counts):
        yield f"token counts must be natural numbers: {usage}"
    elif usage.cached_tokens > usage.input_tokens or usage.reasoning_tokens > usage.output_tokens:
        yield f"cached tokens are part of the input and reasoning tokens of the output: {usage}"


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
