"""What a sandbox may be told: clients, models, limits and switches."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

PERS = "GIGACHAT_API_PERS"
B2B = "GIGACHAT_API_B2B"
CORP = "GIGACHAT_API_CORP"
SCOPES = (PERS, B2B, CORP)

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Client:
    """A client of the OAuth endpoint; valid for exactly one scope."""

    client_id: str
    secret: str = field(repr=False)
    scope: str

    @property
    def key(self) -> str:
        """The authorization key: base64 of ``client_id:secret``."""
        return base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()


@dataclass(frozen=True)
class Account:
    """A user of the ``/token`` endpoint; its limits are those of ``scope``."""

    user: str
    password: str = field(repr=False)
    scope: str = B2B


@dataclass(frozen=True)
class ModelCard:
    """One model: its name, exact build and abilities. ``context`` is in tokens."""

    id: str
    build: str = "latest"
    type: Literal["chat", "embedder", "aicheck", "filter"] = "chat"
    functions: bool = True
    vision: bool = True
    structured: bool = False
    reasoning: bool = False
    context: int = 131_072
    dimensions: int = 0


DEFAULT_CLIENTS = (
    Client("sandbox-pers", "sandbox-secret", PERS),
    Client("sandbox-b2b", "sandbox-secret", B2B),
    Client("sandbox-corp", "sandbox-secret", CORP),
)
DEFAULT_ACCOUNTS = (Account("sandbox", "sandbox-password"),)
DEFAULT_MODELS = (
    ModelCard("GigaChat", "2.0.28.2"),
    ModelCard("GigaChat-Plus", "2.0.28.2", functions=False),
    ModelCard("GigaChat-Pro", "2.0.28.2"),
    ModelCard("GigaChat-Max", "2.0.30.01"),
    ModelCard("GigaChat-2", "2.0.28.2", vision=False),
    ModelCard("GigaChat-2-Pro", "2.0.28.2"),
    ModelCard("GigaChat-2-Max", "2.0.30.01", structured=True),
    ModelCard("GigaChat-3-Ultra", "32.3.18.5", structured=True, reasoning=True),
    ModelCard("Embeddings", type="embedder", context=512, dimensions=1024),
    ModelCard("Embeddings-2", type="embedder", context=512, dimensions=1024),
    ModelCard("EmbeddingsGigaR", type="embedder", context=4096, dimensions=2560),
    ModelCard("GigaEmbeddings-3B-2025-09", type="embedder", context=4096, dimensions=2048),
    ModelCard("GigaCheckDetection", type="aicheck"),
    ModelCard("GigaCheckClassification", type="aicheck"),
    ModelCard("GigaFilter", type="filter"),
)


@dataclass(frozen=True)
class SandboxSettings:
    """Settings of one sandbox; the defaults behave as the public service does.

    ``clock`` returns unix seconds and drives token lifetimes, the prompt cache and the rate of
    token requests, so a test can move time without waiting.
    """

    clients: tuple[Client, ...] = DEFAULT_CLIENTS
    accounts: tuple[Account, ...] = DEFAULT_ACCOUNTS
    models: tuple[ModelCard, ...] = DEFAULT_MODELS
    clock: Callable[[], float] = time.time

    token_lifetime: float = 1800.0
    """Seconds that an access token lives."""
    expires_at_unit: Literal["ms", "s"] = "ms"
    """Unit of ``expires_at`` in OAuth answers; ``exp`` of ``/token`` is always in seconds."""
    token_requests_per_second: int = 10
    anonymous_scope: str | None = None
    """Serve requests without ``Authorization`` under this scope, as hosts with client certificates do."""
    require_user_agent: bool = True

    parallel: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({PERS: 1, B2B: 10, CORP: 10}))
    """Requests at a time per client, by scope; counted on the paths of ``limited_paths``."""
    limited_paths: frozenset[str] = frozenset({"/chat/completions", "/embeddings"})
    package_tokens: int = 1_000_000_000
    """Prepaid tokens of each client for each model; used up, the answer is 402. CORP has no package."""

    strict_fields: bool = False
    """Answer 400 to chat fields outside the v1 contract instead of ignoring them."""
    function_call_finish: Literal["next", "same"] = "next"
    """Whether a streamed call's ``finish_reason`` comes in the next event or in the same one."""
    call_trigger: str = "[[call]]"
    """Text in the last user message that makes the model call the first function."""
    words_per_event: int = 3
    event_interval: float = 0.0
    """Seconds between the events of every stream."""
    prompt_includes_cached: bool = True
    """Whether ``prompt_tokens`` counts the tokens taken from the prompt cache."""
    cache_lifetime: float = 30.0
    """Seconds that a prompt stays cached after its last hit."""

    max_body: int = 20 * MEGABYTE
    """Bytes of a JSON body, beyond which the answer is 413."""
    max_text_file: int = 40 * MEGABYTE
    max_image_file: int = 15 * MEGABYTE
    max_audio_file: int = 35 * MEGABYTE
    max_media_per_request: int = 80 * MEGABYTE
    """Images and audio of one chat request together, in bytes."""
    max_stored: int = 500 * MEGABYTE
    """Bytes of all stored files together."""

    control_api: bool = True
    """Serve ``/_sandbox/faults`` and ``/_sandbox/stats``."""
    journal_size: int = 200
    """How many of the latest requests are remembered for inspection."""

    @property
    def max_upload(self) -> int:
        """Bytes of an upload's body: the largest file and a megabyte for the form around it."""
        return max(self.max_text_file, self.max_image_file, self.max_audio_file) + MEGABYTE
