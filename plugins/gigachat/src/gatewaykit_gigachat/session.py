"""Names for tenants and conversations, as GigaChat gets to see them.

``X-Session-ID`` steers the prompt cache: one conversation must always have the same, two tenants never. ``X-Client-ID``
guards files: what one tenant uploaded, another cannot read (GigaChat REST API, "Request headers").
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Iterator

import msgspec

from gatewaykit.types import AudioPart, Call, ChatRequest, FilePart, ImagePart, Message, TextPart


class Sessions:
    """Derives the names; ``secret`` keeps them from being guessed and must be the same in all workers."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def session_id(self, call: Call) -> str:
        """UUID-shaped; from the client's own name of the conversation, or from how the conversation begins."""
        chat = call.chat
        if chat.session:
            return self._name(b"own", call.principal.tenant.encode(), chat.session.encode(errors="replace"))
        return self._name(b"derived", call.principal.tenant.encode(), *_beginning(chat))

    def _name(self, *parts: bytes) -> str:
        mac = hmac.new(self._secret, digestmod="sha256")
        for part in parts:
            mac.update(len(part).to_bytes(8, "big"))
            mac.update(part)
        return str(uuid.UUID(bytes=mac.digest()[:16], version=4))


def client_id(tenant: str) -> str:
    """A stable name that does not tell the tenant's own; it outlives a change of credentials, as its files do."""
    return hashlib.sha256(b"gatewaykit client\0" + tenant.encode()).hexdigest()[:32]


def _beginning(chat: ChatRequest) -> Iterator[bytes]:
    """What stays the same while a conversation grows: system prompt, first user message, tools."""
    for message in chat.messages:
        if message.role in ("system", "developer"):
            yield from _content(message)
    yield b"user"
    first = next((message for message in chat.messages if message.role == "user"), None)
    if first is not None:
        yield from _content(first)
    yield b"tools"
    for tool in chat.tools:
        yield msgspec.json.encode([tool.name, tool.description, dict(tool.parameters or {})])


def _content(message: Message) -> Iterator[bytes]:
    if isinstance(message.content, str):
        yield message.content.encode(errors="replace")
        return
    for part in message.content:
        match part:
            case TextPart(text):
                yield text.encode(errors="replace")
            case ImagePart(url):
                yield url.encode(errors="replace")
            case AudioPart(data):
                yield data.encode(errors="replace")
            case FilePart(file_id, data, filename):
                yield f"{file_id}\0{filename}\0{data}".encode(errors="replace")
