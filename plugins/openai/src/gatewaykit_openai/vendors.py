"""Vendors, one row each: what is known of those who speak OpenAI's format, so that a name and a key suffice.

Sources: each vendor's own page on its compatible API. A row says only where a vendor differs from the plain format;
settings of an upstream are stronger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

LengthField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]


class Vendor(Struct, frozen=True):
    """Where a vendor is, how it is told who asks, and its quirks.

    ``base_url`` is ``None`` where each customer has an own one. ``key_variable`` is the environment variable that its
    users have. The key is sent as ``key_header: key_scheme key``. ``length_field`` limits an answer's length in
    requests that are translated. ``chat_model`` and ``embedding_model`` make the full name of a short one without
    ``://``; ``{project}`` is the upstream's setting.
    """

    base_url: str | None = None
    key_variable: str | None = None
    key_header: str = "Authorization"
    key_scheme: str = "Bearer"
    length_field: LengthField = "max_tokens"
    chat_model: str = "{model}"
    embedding_model: str = "{model}"

    @property
    def needs_project(self) -> bool:
        """Whether names of models need the setting ``project``."""
        return "{project}" in self.chat_model + self.embedding_model


COMPATIBLE = Vendor()
"""Anybody else."""

VENDORS: Mapping[str, Vendor] = {
    "openai": Vendor("https://api.openai.com/v1", "OPENAI_API_KEY", length_field="max_completion_tokens"),
    "azure": Vendor(
        None, "AZURE_OPENAI_API_KEY", key_header="api-key", key_scheme="", length_field="max_completion_tokens"
    ),
    "vllm": Vendor("http://127.0.0.1:8000/v1", "VLLM_API_KEY"),
    "ollama": Vendor("http://127.0.0.1:11434/v1"),
    "llamacpp": Vendor("http://127.0.0.1:8080/v1"),
    "lmstudio": Vendor("http://127.0.0.1:1234/v1"),
    "yandex": Vendor(
        "https://ai.api.cloud.yandex.net/v1",
        "YANDEX_API_KEY",
        key_scheme="Api-Key",
        chat_model="gpt://{project}/{model}",
        embedding_model="emb://{project}/{model}",
    ),
    "deepseek": Vendor("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "groq": Vendor("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "openrouter": Vendor("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
}
