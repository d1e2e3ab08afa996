"""What is kept of a call's place in its trace until its spans are written."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from gatewaykit.types import Target

STATE = "tracing"
"""Where :attr:`gatewaykit.types.Call.state` has the :class:`Place`."""

MOST_CHARACTERS = 100_000
"""Of what was said, so much is kept, each way."""


class Try(Struct):
    """One attempt: its span's id, and when it began, in nanoseconds since 1970."""

    target: Target
    span_id: int
    began: int


class Place(Struct):
    """Where a call is in its trace, and what was learnt for it on the way: ``attributes`` are those of the request.
    ``said`` is None unless content is kept.
    """

    server_id: int
    sampled: bool
    attributes: Mapping[str, str | int | float | bool]
    tries: list[Try] = field(default_factory=list)
    said: list[str] | None = None
    reasons: list[str] = field(default_factory=list)
