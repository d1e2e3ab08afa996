"""What is left of a request once it is answered. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from .calls import Attempt, Target
from .events import Usage
from .requests import EMPTY

Outcome: TypeAlias = Literal["done", "refused", "client_gone", "provider_error", "blocked", "timeout", "failed"]


class CallRecord(msgspec.Struct, gc=False):
    """What is left of a call: exactly one for each request that matched a dialect, refused ones included.

    Observers share it: read it, do not change it. ``began`` is unix time; ``seconds`` the whole call,
    ``first_event_seconds`` until the first event, both from the request's arrival; ``timings`` the stages of the
    ``Server-Timing`` header, ``trace_id`` the trace it belongs to. ``route`` is the dialect's own path, ``/*`` and all.
    ``operation`` is the dialect's, ``state`` is :attr:`Call.state`, ``traceparent`` the client's header, unread.
    """

    request_id: str
    began: float
    method: str
    path: str
    dialect: str
    status: int
    outcome: Outcome
    seconds: float
    client: str | None = None
    principal: str | None = None
    owner: str | None = None
    tenant: str | None = None
    model: str | None = None
    stream: bool = False
    target: Target | None = None
    attempts: tuple[Attempt, ...] = ()
    first_event_seconds: float | None = None
    usage: Usage | None = None
    error: str | None = None
    timings: Mapping[str, float] = EMPTY
    trace_id: str | None = None
    route: str = ""
    operation: str = "chat"
    state: Mapping[str, Any] = EMPTY
    traceparent: str | None = None


class RouteRecord(msgspec.Struct, frozen=True, gc=False):
    """What is left of a request outside the dialects. ``route`` is the path of the route that answered, with its
    parameters unfilled; empty where nothing has the path. ``seconds`` is the time to the end of the answer, ``began``
    unix time, ``principal`` who called where the route asked.
    """

    method: str
    route: str
    status: int
    seconds: float
    path: str = ""
    request_id: str = ""
    trace_id: str | None = None
    began: float = 0.0
    client: str | None = None
    principal: str | None = None
