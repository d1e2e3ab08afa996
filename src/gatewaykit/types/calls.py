"""A request on its way: what came in, who asks, where it may go, what was tried. Times are seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gatewaykit.limits import Limit
from gatewaykit.tracecontext import parse

from .requests import EMPTY, ChatRequest, EmbeddingsRequest, Request

if TYPE_CHECKING:
    from gatewaykit.errors import GatewayError


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """What came in over HTTP, before anything was believed. Header names are lower case; repeated ones are joined."""

    method: str
    path: str
    headers: Mapping[str, str]
    client: str | None
    request_id: str

    @property
    def trace_id(self) -> str | None:
        """The trace that the client says this request belongs to (W3C Trace Context, 3.2), if it says so well."""
        parent = parse(self.headers.get("traceparent"))
        return None if parent is None else parent.trace_id


INFERENCE, USAGE, KEYS, ADMIN = "inference", "usage", "keys", "admin"
"""Scopes: to call models, to read one's own usage, to manage one's own keys, and to manage everything."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. ``id`` is stable and safe to log; ``owner`` is the account behind it, if there is one.

    ``tenant`` separates what must never be shared (sessions, caches, files); it defaults to ``id``. ``models`` and
    ``routes`` are globs of the models it may use and the paths it may call, ``scopes`` what it may do there.
    ``limits`` are its own and its owner's. ``challenge`` is what ``WWW-Authenticate`` says when it may not do
    something, but for the scope that was missing (RFC 6750, 3.1); empty for credentials that know no such thing.
    """

    id: str
    name: str = ""
    tenant: str = ""
    owner: str = ""
    models: tuple[str, ...] = ("*",)
    routes: tuple[str, ...] = ("*",)
    scopes: frozenset[str] = frozenset({INFERENCE, USAGE})
    limits: tuple[Limit, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    challenge: str = ""

    def __post_init__(self) -> None:
        if not self.tenant:
            object.__setattr__(self, "tenant", self.id)


class Hedge(msgspec.Struct, frozen=True):
    """When to start a second target beside a first that is silent: after ``seconds``; or, with a ``quantile``, after
    the time within which that share of its answers begin, and ``seconds`` while that is not known.
    """

    seconds: float
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One place that can answer: a model, by its name at the provider of that name. ``name`` is both, with a slash.

    All else says how it is asked, and makes it no other place: targets are equal where provider and model are.
    ``first_event`` and ``between_events`` are its time limits in seconds, instead of those of ``timeouts``;
    ``whole_call`` is that of its whole answer, from when it is asked. ``parameters`` are sent where the client said
    nothing of them; ``context`` is the length of its window in tokens.
    It is asked only ``after`` an error with one of these codes, if there are any; and after one of those it ``stops``
    at, only targets are asked that wait for it. ``hedge`` starts the next target beside it.
    """

    provider: str
    model: str
    first_event: float | None = field(default=None, compare=False)
    between_events: float | None = field(default=None, compare=False)
    whole_call: float | None = field(default=None, compare=False)
    parameters: Mapping[str, Any] = field(default_factory=lambda: EMPTY, compare=False)
    context: int | None = field(default=None, compare=False)
    after: frozenset[str] = field(default=frozenset(), compare=False)
    stops: frozenset[str] = field(default=frozenset(), compare=False)
    hedge: Hedge | None = field(default=None, compare=False)
    name: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.provider}/{self.model}")

    def __str__(self) -> str:
        return self.name


CACHE = "cache"
"""The provider's name in the target of an answer that was kept from an earlier call: it costs nothing."""


class Attempt(msgspec.Struct, gc=False):
    """One try at one target; ``error`` is the code of what went wrong, ``None`` if it answered.

    ``seconds`` are those until the first event or, for an answer in one piece, until the whole of it. Beside the codes
    of errors there are ``cancelled`` (the call was over) and ``overtaken`` (another target was quicker).
    """

    target: Target
    seconds: float
    error: str | None = None


class Allowance(Protocol):
    """Who decides whether anything is tried again."""

    def grant(self, call: Call, error: GatewayError) -> bool:
        """Whether the provider that ``call`` is at may try once more after ``error``; granted, it counts as a try."""
        ...


class Call(msgspec.Struct):
    """One request on its way through the gateway: what every hook after authentication receives.

    ``raw_dialect`` names the client's dialect while its bytes (``body``) may pass unread to a provider that speaks it;
    it is ``None`` once a transform wants to see events or has changed the request. ``state`` belongs to plugins, by
    plugin name. ``answer_headers`` are added to the answer, if they are set before its first event. ``arrived`` is
    ``time.monotonic()``; ``timings`` are seconds by stage.

    ``target`` is the one that is being tried, since ``tried_at``; ``retried`` counts further tries, ``waited`` the
    seconds that went by until a target began to answer, pauses between tries included.
    """

    incoming: Incoming
    principal: Principal
    dialect: str
    request: Request
    body: bytes = b""
    raw_dialect: str | None = None
    targets: tuple[Target, ...] = ()
    attempts: list[Attempt] = []
    arrived: float = msgspec.field(default_factory=time.monotonic)
    timings: dict[str, float] = {}
    state: dict[str, Any] = {}
    answer_headers: tuple[tuple[str, str], ...] = ()
    target: Target | None = None
    tried_at: float = 0.0
    retried: int = 0
    waited: float = 0.0
    allowance: Allowance | None = None

    def may_retry(self, error: GatewayError) -> bool:
        """Whether a provider may try again by itself after ``error``; to be asked before each further try.

        The gateway counts such tries with its own, against one budget, and says no while another target is left.
        """
        return self.allowance is None or self.allowance.grant(self, error)

    @property
    def request_id(self) -> str:
        """The id in the answer's ``x-request-id``, in every log line and in the record."""
        return self.incoming.request_id

    @property
    def chat(self) -> ChatRequest:
        """The request, for those who serve conversations only."""
        if not isinstance(self.request, ChatRequest):
            raise TypeError(f"not a chat request: {type(self.request).__name__}")
        return self.request

    @property
    def embeddings(self) -> EmbeddingsRequest:
        """The request, for those who make vectors."""
        if not isinstance(self.request, EmbeddingsRequest):
            raise TypeError(f"not a request for embeddings: {type(self.request).__name__}")
        return self.request
