"""A pluggable ASGI gateway for language models.

``from gatewaykit import Gateway, GatewayMiddleware`` to run or mount one; ``hookimpl``, ``Section`` and the
protocols and types to write a plugin. Importing this package loads no plugin and opens no file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gatewaykit.errors import *  # noqa: F403 - the whole tree is public
from gatewaykit.errors import __all__ as _errors
from gatewaykit.hookspecs import hookimpl
from gatewaykit.metrics import Metric, Reading
from gatewaykit.migration import MigrationSource
from gatewaykit.protocols import (
    AroundCall,
    Authenticator,
    Dialect,
    Encoder,
    GatewayContext,
    Known,
    Limiter,
    Observer,
    Permit,
    Proceed,
    Provider,
    Readable,
    Router,
    Transform,
)
from gatewaykit.types import (
    Attempt,
    AudioPart,
    Batch,
    Call,
    CallRecord,
    ChatRequest,
    Choice,
    ContentPart,
    EmbeddingList,
    EmbeddingsRequest,
    Event,
    FilePart,
    Finished,
    FinishReason,
    ImagePart,
    Incoming,
    Message,
    Model,
    ModelList,
    ModelsRequest,
    NamedTool,
    Principal,
    Raw,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Request,
    ResponseFormat,
    RouteRecord,
    Started,
    Target,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)

if TYPE_CHECKING:
    from gatewaykit.app import Gateway
    from gatewaykit.mounting import GatewayMiddleware
    from gatewaykit.settings import Section, Table

_LATER = {
    "Gateway": "gatewaykit.app",
    "GatewayMiddleware": "gatewaykit.mounting",
    "Section": "gatewaykit.settings",
    "Table": "gatewaykit.settings",
}


def __getattr__(name: str) -> Any:
    """What needs heavier imports comes with its first use; ``__version__`` from the installed package."""
    if name == "__version__":
        from importlib.metadata import version

        return version("gatewaykit")
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'gatewaykit' has no attribute {name!r}")


__all__ = [
    "AroundCall",
    "Attempt",
    "AudioPart",
    "Authenticator",
    "Batch",
    "Call",
    "CallRecord",
    "ChatRequest",
    "Choice",
    "ContentPart",
    "Dialect",
    "EmbeddingList",
    "EmbeddingsRequest",
    "Encoder",
    "Event",
    "FilePart",
    "FinishReason",
    "Finished",
    "Gateway",
    "GatewayContext",
    "GatewayMiddleware",
    "ImagePart",
    "Incoming",
    "Known",
    "Limiter",
    "Message",
    "Metric",
    "MigrationSource",
    "Model",
    "ModelList",
    "ModelsRequest",
    "NamedTool",
    "Observer",
    "Permit",
    "Principal",
    "Proceed",
    "Provider",
    "Raw",
    "Readable",
    "Reading",
    "ReasoningDelta",
    "RefusalDelta",
    "Reply",
    "Request",
    "ResponseFormat",
    "RouteRecord",
    "Router",
    "Section",
    "Started",
    "Table",
    "Target",
    "TextDelta",
    "TextPart",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Transform",
    "Usage",
    "hookimpl",
    *_errors,
]
