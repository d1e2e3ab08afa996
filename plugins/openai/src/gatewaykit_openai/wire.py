"""The parts of OpenAI's answers that this provider reads. What it does not name is skipped without being built.

Source: OpenAI API reference, "Create chat completion" and "Streaming"; servers that follow it loosely are met halfway:
every field may be missing or null, and free-form values stay undecoded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gatewaykit.types import Usage

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the readers raise."""


class Struct(msgspec.Struct, gc=False):
    """A document on the wire: unknown fields are ignored."""


class InputDetails(Struct):
    """Kinds of tokens among those of the prompt."""

    cached_tokens: float | None = None


class OutputDetails(Struct):
    """Kinds of tokens among those of the answer."""

    reasoning_tokens: float | None = None


class TokenCounts(Struct):
    """``usage``."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None

    def usage(self) -> Usage | None:
        """The same in the gateway's words; ``None`` when nothing was counted."""
        if self.prompt_tokens is None and self.completion_tokens is None:
            return None
        read, written = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            input_tokens=whole(self.prompt_tokens),
            output_tokens=whole(self.completion_tokens),
            cached_tokens=whole(read.cached_tokens if read else None),
            reasoning_tokens=whole(written.reasoning_tokens if written else None),
        )


class FunctionPiece(Struct):
    """The function of a tool call, or what is new of it. ``arguments`` is JSON text; some servers send the object."""

    name: str | None = None
    arguments: Any = None


class ToolCallPiece(Struct):
    """A tool call, or what is new of it."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Said(Struct):
    """``delta`` of a chunk, ``message`` of an answer in one piece. ``content`` is text, or a list of parts."""

    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class ChunkChoice(Struct):
    """One choice of a chunk."""

    index: int = 0
    delta: Said | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class Chunk(Struct):
    """``chat.completion.chunk``."""

    id: str | None = None
    created: float | None = None
    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class GlanceDelta(Struct):
    """What most chunks are for."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class GlanceChoice(Struct):
    """One choice of a chunk, at a glance."""

    index: int = 0
    delta: GlanceDelta | None = None
    finish_reason: Any = None


class Glance(Struct):
    """A chunk at a glance: enough to see whether the stream goes on as usual."""

    choices: list[GlanceChoice] | None = None
    usage: Any = None
    error: Any = None


class AnswerChoice(Struct):
    """One choice of an answer in one piece."""

    index: int = 0
    message: Said | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class Answer(Struct):
    """``chat.completion``."""

    id: str | None = None
    created: float | None = None
    model: str | None = None
    choices: list[AnswerChoice] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class Summary(Struct):
    """The same, when only its use is of interest."""

    model: str | None = None
    choices: list[msgspec.Raw] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class EmbeddingEntry(Struct):
    """One vector. ``embedding`` is numbers, or base64 of 32-bit floats."""

    embedding: list[float] | str
    index: int = 0


class Embeddings(Struct):
    """The answer to a request for embeddings."""

    model: str | None = None
    data: list[EmbeddingEntry] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class EmbeddingsSummary(Struct):
    """The same, when only its use is of interest."""

    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: TokenCounts | None = None
    error: Any = None


class ModelEntry(Struct):
    """One entry of the list of models."""

    id: str
    owned_by: str | None = None
    created: float | None = None


class ModelEntries(Struct):
    """The list of models."""

    data: list[ModelEntry]


read_chunk = msgspec.json.Decoder(Chunk).decode
read_glance = msgspec.json.Decoder(Glance).decode
read_glances = msgspec.json.Decoder(list[Glance]).decode
read_answer = msgspec.json.Decoder(Answer).decode
read_summary = msgspec.json.Decoder(Summary).decode
read_embeddings = msgspec.json.Decoder(Embeddings).decode
read_embeddings_summary = msgspec.json.Decoder(EmbeddingsSummary).decode
read_models = msgspec.json.Decoder(ModelEntries).decode


def whole(value: float | None) -> int:
    """A number that should be a natural one; what is not counts as 0."""
    return int(value) if value is not None and 0 < value < 2**63 else 0


def arguments_text(arguments: Any) -> str:
    """A call's arguments as JSON text."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else msgspec.json.encode(arguments).decode()
