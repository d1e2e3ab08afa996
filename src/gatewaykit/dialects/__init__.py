"""The wire formats that clients speak. Each module holds one; all of them reach the core as plugins' dialects do."""

from gatewaykit.dialects.openai_chat import OpenAIChat
from gatewaykit.dialects.openai_embeddings import OpenAIEmbeddings
from gatewaykit.dialects.openai_models import OpenAIModels

__all__ = ["OpenAIChat", "OpenAIEmbeddings", "OpenAIModels"]
