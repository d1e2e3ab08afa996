"""What a provider answers: events, and a reply, that is events folded into one piece.

Events are structs, because a stream makes thousands of them. Counts of tokens are tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from .requests import ToolCall

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Event(msgspec.Struct, gc=False):
    """Something that a provider said. A stream is any number of events with at least one :class:`Finished`."""


class Started(Event):
    """What is known at the beginning; optional, and only ever the first event.

    ``ignored`` names request parameters that this provider could not honour: the client reads them in a header.
    """

    model: str = ""
    id: str = ""
    created: int = 0
    ignored: tuple[str, ...] = ()


class TextDelta(Event):
    """The next piece of the answer's text. ``logprobs`` is passed on in OpenAI's shape, if given."""

    text: str
    choice: int = 0
    logprobs: Any = None


class ReasoningDelta(Event):
    """The next piece of what the model thinks before it answers."""

    text: str
    choice: int = 0


class RefusalDelta(Event):
    """The next piece of the model's own refusal."""

    text: str
    choice: int = 0


class ToolCallDelta(Event):
    """A tool call or a fragment of it: the first of an ``index`` carries ``id`` and ``name``; arguments are
    appended.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0


class Finished(Event):
    """Choice number ``choice`` is complete, and why."""

    reason: FinishReason = "stop"
    choice: int = 0


class Usage(Event):
    """Tokens of the whole call. ``cached_tokens`` are part of the input, ``reasoning_tokens`` part of the output.

    ``estimated`` says that the gateway counted, because the provider gave no figures.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


class Raw(Event):
    """Bytes in the client's own dialect, to be passed on unread.

    In a stream: one or more whole SSE frames, never the final ``[DONE]``. Otherwise: the whole JSON answer. A provider
    sends it only where :attr:`Call.raw_dialect` is a dialect that it speaks natively. ``characters`` is its estimate of
    the text inside, for accounting when no usage follows.
    """

    data: bytes
    characters: int = 0


class Batch(Event):
    """Events that arrived together, in order; after the last of them the provider has to wait for more.

    A provider may yield them so to save steps. Around-calls and transforms get its events one by one.
    """

    events: Sequence[Event]


class Model(msgspec.Struct, frozen=True, gc=False):
    """A model as the list of models shows it; ``created`` is unix time in seconds."""

    id: str
    owned_by: str = ""
    created: int = 0


class ModelList(Event):
    """The answer to a :class:`ModelsRequest`."""

    models: tuple[Model, ...]


Vector: TypeAlias = Sequence[float]


class EmbeddingList(Event):
    """The answer to an :class:`EmbeddingsRequest`: one vector for each text, in its order."""

    vectors: tuple[Vector, ...]


class Choice(msgspec.Struct, gc=False):
    """One complete answer."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[ToolCall] = []
    finish_reason: FinishReason = "stop"
    logprobs: Any = None


class Reply(msgspec.Struct, gc=False):
    """A complete answer, that is: a stream of events, folded. ``raw`` is the provider's JSON when it passes unread."""

    model: str = ""
    id: str = ""
    created: int = 0
    choices: list[Choice] = []
    usage: Usage | None = None
    ignored: tuple[str, ...] = ()
    raw: bytes | None = None
    models: tuple[Model, ...] | None = None
    vectors: tuple[Vector, ...] | None = None
