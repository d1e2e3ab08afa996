"""Which request the running task serves: for those who log and were not handed it."""

from __future__ import annotations

from contextvars import ContextVar

from gatewaykit.types import Incoming

REQUEST: ContextVar[Incoming | None] = ContextVar("gatewaykit_request", default=None)
"""Set while a request is on its way; None elsewhere."""
