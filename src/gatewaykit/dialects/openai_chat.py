"""OpenAI's chat completions: ``POST /v1/chat/completions``, streamed and not."""

from __future__ import annotations

from gatewaykit.dialects.openai_chat_decode import decode_chat
from gatewaykit.dialects.openai_chat_encode import ChunkEncoder, encode_completion
from gatewaykit.dialects.openai_errors import encode_error
from gatewaykit.errors import GatewayError
from gatewaykit.protocols import Dialect, Encoder
from gatewaykit.types import Call, ChatRequest, Incoming, Reply


class OpenAIChat(Dialect):
    """The wire format of the official OpenAI SDKs' ``chat.completions``."""

    name = "openai_chat"
    routes = (("POST", "/v1/chat/completions"),)

    def decode(self, incoming: Incoming, body: bytes) -> ChatRequest:
        """The chat request of ``body``. Raises :class:`~gatewaykit.errors.BadRequest` naming the field."""
        return decode_chat(incoming, body)

    def encoder(self, call: Call) -> Encoder:
        """A new encoder of chunks."""
        return ChunkEncoder(call)

    def encode_reply(self, call: Call, reply: Reply) -> bytes:
        """A ``chat.completion``; what the provider wrote in this format itself is passed on as it is."""
        return reply.raw if reply.raw is not None else encode_completion(call, reply)

    def encode_error(self, error: GatewayError, request_id: str) -> bytes:
        """OpenAI's error body; the request's id stands in the header ``x-request-id``."""
        return encode_error(error)
