"""The OpenAI wire formats that clients may speak."""

from __future__ import annotations

from collections.abc import Iterable

from gatewaykit.dialects.openai_chat import OpenAIChat
from gatewaykit.dialects.openai_embeddings import OpenAIEmbeddings
from gatewaykit.dialects.openai_models import OpenAIModels
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import Dialect


@hookimpl
def gateway_dialects() -> Iterable[Dialect]:
    """Chat completions, embeddings and the list of models."""
    return [OpenAIChat(), OpenAIEmbeddings(), OpenAIModels()]
