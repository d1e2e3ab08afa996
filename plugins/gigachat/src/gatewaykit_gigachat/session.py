"""Names for tenants and conversations, as GigaChat gets to see them.

``X-Session-ID`` steers the prompt cache: one conversation must always have the same, two tenants never. ``X-Client-ID``
guards files: what one tenant uploaded, another cannot read (GigaChat REST API, "Request headers").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from gatewaykit.types import AudioPart, Call, ChatRequest, ContentPart, FilePart, ImagePart, Message, TextPart

_ENOUGH = 64 * 1024
"""Characters of a text or file that tell it from others, together with its length."""


class Sessions:
    """Derives the names by keyed BLAKE2b (RFC 7693), which is a message authentication code like HMAC, only quicker.

    ``secret``, at most 64 bytes, keeps the names from being guessed and must be the same in all workers.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def session_id(self, call: Call) -> str:
        """UUID-shaped; from the client's own name of the conversation, or from how the conversation begins."""
        chat, tenant = call.chat, call.principal.tenant
        if chat.session:
            return self._name(["own", tenant, chat.session])
        return self._name(["derived", tenant, *_beginning(chat)])

    def _name(self, parts: list[str]) -> str:
        code = hashlib.blake2b(_told(parts), key=self._secret, digest_size=16).hexdigest()
        return f"{code[:8]}-{code[8:12]}-4{code[13:16]}-a{code[17:20]}-{code[20:32]}"


@lru_cache(4096)
def client_id(tenant: str) -> str:
    """A stable name that does not tell the tenant's own; it outlives a change of credentials, as its files do."""
    return hashlib.sha256(b"gatewaykit client\0" + tenant.encode(errors="replace")).hexdigest()[:32]


def _told(parts: list[str]) -> bytes:
    """The lengths of the texts, then their beginnings: no two lists of texts that differ there give the same bytes."""
    lengths = list(map(len, parts))
    if max(lengths) > _ENOUGH:
        parts = [part[:_ENOUGH] for part in parts]
    return msgspec.json.encode(lengths) + "".join(parts).encode(errors="surrogatepass")


def _beginning(chat: ChatRequest) -> list[str]:
    """What stays the same while a conversation grows: system prompt, first user message, tools."""
    system: list[str] = []
    user: list[str] | None = None
    for message in chat.messages:
        if message.role == "system" or message.role == "developer":
            system += _content(message)
        elif message.role == "user" and user is None:
            user = _content(message)
    tools: list[str] = []
    for tool in chat.tools:
        tools += (tool.name, tool.description or "")
        tools.append(msgspec.json.encode(tool.parameters and dict(tool.parameters)).decode())
    return [*system, "user", *(user or ()), "tools", *tools]


def _content(message: Message) -> list[str]:
    return [message.content] if isinstance(message.content, str) else [*_texts(message.content)]


def _texts(parts: Iterable[ContentPart]) -> Iterator[str]:
    for part in parts:
        match part:
            case TextPart(text):
                yield text
            case ImagePart(url):
                yield url
            case AudioPart(data):
                yield data
            case FilePart(file_id, data, filename):
                yield from (file_id or "", filename or "", data or "")
