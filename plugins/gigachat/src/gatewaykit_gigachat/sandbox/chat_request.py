"""The v1 chat request: its shape, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from .body import shaped
from .refusals import api_refusal

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Role = Literal["system", "user", "assistant", "function", "search_result", "function_in_progress"]

_OPEN_FIELDS = frozenset(
    {"n", "profanity_check", "flags", "storage", "function_ranker", "additional_data"},
)


class FunctionCall(Struct):
    """A call in the history; ``arguments`` is an object, never text."""

    name: str
    arguments: dict[str, Any] | None = None


class ChatMessage(Struct):
    """One message; ``content`` may be absent only beside a ``function_call``."""

    role: Role
    content: str | None = None
    function_call: FunctionCall | None = None
    functions_state_id: str | None = None
    name: str | None = None
    attachments: list[str] | None = None
    reasoning_content: str | None = None
    id: Any = None
    created: Any = None
    data_for_context: Any = None

    @property
    def text(self) -> str:
        """The content, or an empty text."""
        return self.content or ""


class FunctionSpec(Struct):
    """The definition of a function; a built-in one is given by name alone."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    few_shot_examples: list[dict[str, Any]] | None = None
    return_parameters: dict[str, Any] | None = None


class ForcedCall(Struct):
    """``function_call`` that names a function; ``partial_arguments`` are taken as they are."""

    name: str
    partial_arguments: dict[str, Any] | None = None


class ResponseFormat(Struct):
    """How the answer shall be written."""

    type: str
    schema: Any = UNSET
    strict: bool | None = None
    regex: str | UnsetType = UNSET


class ChatRequest(Struct):
    """The fields that the sandbox understands. ``temperature`` and the like are checked elsewhere."""

    model: str
    messages: list[ChatMessage]
    functions: list[FunctionSpec] | None = None
    function_call: Literal["auto", "none"] | ForcedCall | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Int32 | None = None
    repetition_penalty: float | None = None
    stream: bool | None = None
    update_interval: float | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None

    @property
    def last_user(self) -> ChatMessage | None:
        """The last message of role ``user``."""
        return next((message for message in reversed(self.messages) if message.role == "user"), None)


def read_chat_request(document: dict[str, Any], *, strict: bool) -> ChatRequest:
    """``document`` as a chat request; 400 for any error of shape, and with ``strict`` for unknown fields."""
    if strict and not document.keys() <= {*ChatRequest.__struct_fields__, *_OPEN_FIELDS}:
        raise api_refusal(400)
    request = shaped(document, ChatRequest)
    for message in request.messages:
        if message.content is None and message.function_call is None:
            raise api_refusal(400)
    return request
