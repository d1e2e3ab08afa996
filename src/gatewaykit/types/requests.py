"""What a client asks: conversations, embeddings, the list of models.

Requests are frozen: a transform makes a new one with :func:`msgspec.structs.replace`. They are structs, for each call
makes some, and a frozen dataclass takes eight times as long to make. Nothing here opens anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec

EMPTY: Mapping[str, Any] = MappingProxyType({})
"""An empty read-only mapping, shared as a default."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True, gc=False):
    """A piece of text in a message."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, gc=False):
    """An image: ``url`` is a ``data:`` URL or an http(s) address; ``detail`` is the client's wish (low, high, auto)."""

    url: str
    detail: str | None = None


class AudioPart(msgspec.Struct, frozen=True, gc=False):
    """Sound: ``data`` is base64, ``format`` its kind (``wav``, ``mp3``)."""

    data: str
    format: str


class FilePart(msgspec.Struct, frozen=True, gc=False):
    """A document: either ``file_id``, known to the provider, or ``data`` (a ``data:`` URL or base64) with a name."""

    file_id: str | None = None
    data: str | None = None
    filename: str | None = None


ContentPart: TypeAlias = TextPart | ImagePart | AudioPart | FilePart


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call of a tool by the model; ``arguments`` is JSON text, exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, gc=False):
    """One turn of the conversation. ``tool_call_id`` ties a ``tool`` message to the call it answers."""

    role: Role
    content: str | tuple[ContentPart, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """All text of the message; parts are joined by newlines, images and files are left out."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))


class Tool(msgspec.Struct, frozen=True, gc=False):
    """A function that the model may call; ``parameters`` is a JSON Schema object."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


class NamedTool(msgspec.Struct, frozen=True, gc=False):
    """The choice of exactly this tool."""

    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "required"] | NamedTool


class ResponseFormat(msgspec.Struct, frozen=True, gc=False):
    """The form of the answer's text; ``schema`` is a JSON Schema when ``type`` is ``json_schema``."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, gc=False):
    """A conversation to be continued. ``None`` means that the client did not say.

    ``extra`` keeps the client's fields for which there is no word here, under their own names. ``session`` is the
    client's own name for the conversation (header ``X-Session-ID``).
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    session: str | None = None
    extra: Mapping[str, Any] = EMPTY


class ModelsRequest(msgspec.Struct, frozen=True, gc=False):
    """The list of models (``model`` is empty), or one of them. It is never streamed."""

    model: str = ""
    stream: bool = False


class EmbeddingsRequest(msgspec.Struct, frozen=True, gc=False):
    """Texts of which vectors are wanted; it is never streamed. A text may be given as the ids of its tokens.

    ``encoding`` is how the client wants to read numbers: as JSON, or as base64 of 32-bit floats, little-endian. It is
    the dialect's matter, not the provider's. ``dimensions`` is how many numbers a vector shall have.
    """

    model: str
    input: tuple[str | tuple[int, ...], ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    stream: bool = False
    extra: Mapping[str, Any] = EMPTY


Request: TypeAlias = ChatRequest | ModelsRequest | EmbeddingsRequest
