"""What is wrong with a sequence of events is found and said."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gatewaykit.testing import check_events
from gatewaykit.types import Event, Finished, Raw, Started, TextDelta, ToolCallDelta, Usage

CALL = ToolCallDelta(0, "call_1", "look", '{"a": ')
GOOD: list[Sequence[Event]] = [
    [Finished()],
    [Started("m"), TextDelta("a"), Finished(), Usage(2, 1, cached_tokens=2, reasoning_tokens=1)],
    [TextDelta("a"), TextDelta("b", 1), Finished("stop", 1), TextDelta("c"), Finished()],
    [CALL, ToolCallDelta(0, arguments="1}"), Finished("tool_calls")],
    [Raw(b"data: {}\n\n")],
]
BAD: list[tuple[Sequence[Event], str]] = [
    ([], "no Finished"),
    ([TextDelta("a")], "no Finished"),
    ([TextDelta("a"), Started("m"), Finished()], "Started"),
    ([Finished(), Finished()], "Finished twice"),
    ([Finished(), TextDelta("late")], "TextDelta follows Finished"),
    ([ToolCallDelta(0, arguments="{}"), Finished()], "without id or name"),
    ([CALL, Finished()], "JSON object"),
    ([ToolCallDelta(0, "call_1", "look", "[]"), Finished()], "JSON object"),
    ([Usage(1, 1), Finished()], "not the last"),
    ([Finished(), Usage(1, 1), Usage(1, 1)], "more than once"),
    ([Finished(), Usage(-1, 1)], "natural numbers"),
    ([Finished(), Usage(1, 1, cached_tokens=2)], "part of the input"),
]


@pytest.mark.parametrize("events", GOOD)
def test_well_formed_streams_pass(events: Sequence[Event]) -> None:
    """What the gateway can rely on is not complained of."""
    check_events(events)


@pytest.mark.parametrize(("events", "complaint"), BAD)
def test_ill_formed_streams_are_told(events: Sequence[Event], complaint: str) -> None:
    """The first thing wrong is named."""
    with pytest.raises(AssertionError, match=complaint):
        check_events(events)
