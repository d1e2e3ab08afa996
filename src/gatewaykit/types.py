"""The gateway's own words: what a request, an event, an answer and a call are, whatever wire format they came in.

Requests are frozen: a transform makes a new one with :func:`dataclasses.replace`. Events are plain slotted objects,
because a stream makes thousands of them. Times are seconds, token counts are tokens; nothing here opens anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from gatewaykit.limits import Limit
from gatewaykit.tracecontext import parse

if TYPE_CHECKING:
    from gatewaykit.errors import GatewayError

EMPTY: Mapping[str, Any] = MappingProxyType({})
"""An empty read-only mapping, shared as a default."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Outcome: TypeAlias = Literal["done", "refused", "client_gone", "provider_error", "blocked", "timeout", "failed"]


# the request


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: ``url`` is a ``data:`` URL or an http(s) address; ``detail`` is the client's wish (low, high, auto)."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Sound: ``data`` is base64, ``format`` its kind (``wav``, ``mp3``)."""

    data: str
    format: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document: either ``file_id``, known to the provider, or ``data`` (a ``data:`` URL or base64) with a name."""

    file_id: str | None = None
    data: str | None = None
    filename: str | None = None


ContentPart: TypeAlias = TextPart | ImagePart | AudioPart | FilePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the model; ``arguments`` is JSON text, exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation. ``tool_call_id`` ties a ``tool`` message to the call it answers."""

    role: Role
    content: str | tuple[ContentPart, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """All text of the message; parts are joined by newlines, images and files are left out."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; ``parameters`` is a JSON Schema object."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The choice of exactly this tool."""

    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of the answer's text; ``schema`` is a JSON Schema when ``type`` is ``json_schema``."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued. ``None`` means that the client did not say.

    ``extra`` keeps the client's fields for which there is no word here, under their own names. ``session`` is the
    client's own name for the conversation (header ``X-Session-ID``).
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    session: str | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class ModelsRequest:
    """The list of models (``model`` is empty), or one of them. It is never streamed."""

    model: str = ""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """Texts of which vectors are wanted; it is never streamed. A text may be given as the ids of its tokens.

    ``encoding`` is how the client wants to read numbers: as JSON, or as base64 of 32-bit floats, little-endian. It is
    the dialect's matter, not the provider's. ``dimensions`` is how many numbers a vector shall have.
    """

    model: str
    input: tuple[str | tuple[int, ...], ...]
    encoding: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    stream: bool = False
    extra: Mapping[str, Any] = field(default_factory=lambda: EMPTY)


Request: TypeAlias = ChatRequest | ModelsRequest | EmbeddingsRequest


# events and answers


class Event:
    """Something that a provider said. A stream is any number of events with at least one :class:`Finished`."""

    __slots__ = ()


@dataclass(slots=True)
class Started(Event):
    """What is known at the beginning; optional, and only ever the first event.

    ``ignored`` names request parameters that this provider could not honour: the client reads them in a header.
    """

    model: str = ""
    id: str = ""
    created: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(slots=True)
class TextDelta(Event):
    """The next piece of the answer's text. ``logprobs`` is passed on in OpenAI's shape, if given."""

    text: str
    choice: int = 0
    logprobs: Any = None


@dataclass(slots=True)
class ReasoningDelta(Event):
    """The next piece of what the model thinks before it answers."""

    text: str
    choice: int = 0


@dataclass(slots=True)
class RefusalDelta(Event):
    """The next piece of the model's own refusal."""

    text: str
    choice: int = 0


@dataclass(slots=True)
class ToolCallDelta(Event):
    """A tool call or a fragment of it: the first of an ``index`` carries ``id`` and ``name``; arguments are
    appended.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0


@dataclass(slots=True)
class Finished(Event):
    """Choice number ``choice`` is complete, and why."""

    reason: FinishReason = "stop"
    choice: int = 0


@dataclass(slots=True)
class Usage(Event):
    """Tokens of the whole call. ``cached_tokens`` are part of the input, ``reasoning_tokens`` part of the output.

    ``estimated`` says that the gateway counted, because the provider gave no figures.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class Raw(Event):
    """Bytes in the client's own dialect, to be passed on unread.

    In a stream: one or more whole SSE frames, never the final ``[DONE]``. Otherwise: the whole JSON answer. A provider
    sends it only where :attr:`Call.raw_dialect` is a dialect that it speaks natively. ``characters`` is its estimate of
    the text inside, for accounting when no usage follows.
    """

    data: bytes
    characters: int = 0


@dataclass(slots=True)
class Batch(Event):
    """Events that arrived together, in order; after the last of them the provider has to wait for more.

    A provider may yield them so to save steps. Around-calls and transforms get its events one by one.
    """

    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the list of models shows it; ``created`` is unix time in seconds."""

    id: str
    owned_by: str = ""
    created: int = 0


@dataclass(slots=True)
class ModelList(Event):
    """The answer to a :class:`ModelsRequest`."""

    models: tuple[Model, ...]


Vector: TypeAlias = Sequence[float]


@dataclass(slots=True)
class EmbeddingList(Event):
    """The answer to an :class:`EmbeddingsRequest`: one vector for each text, in its order."""

    vectors: tuple[Vector, ...]


@dataclass(slots=True)
class Choice:
    """One complete answer."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    logprobs: Any = None


@dataclass(slots=True)
class Reply:
    """A complete answer, that is: a stream of events, folded. ``raw`` is the provider's JSON when it passes unread."""

    model: str = ""
    id: str = ""
    created: int = 0
    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None
    ignored: tuple[str, ...] = ()
    raw: bytes | None = None
    models: tuple[Model, ...] | None = None
    vectors: tuple[Vector, ...] | None = None


# the call


@dataclass(frozen=True, slots=True)
class Incoming:
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


@dataclass(frozen=True, slots=True)
class Hedge:
    """When to start a second target beside a first that is silent: after ``seconds``; or, with a ``quantile``, after
    the time within which that share of its answers begin, and ``seconds`` while that is not known.
    """

    seconds: float
    quantile: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One place that can answer: a model, by its name at the provider of that name.

    All else says how it is asked, and makes it no other place: targets are equal where provider and model are.
    ``first_event`` and ``between_events`` are its time limits in seconds instead of those of ``timeouts``;
    ``whole_call`` is that of its whole answer, from when it is asked. ``parameters`` are sent where the client said nothing of them; ``context`` is the length of its window in tokens.
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

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


CACHE = "cache"
"""The provider's name in the target of an answer that was kept from an earlier call: it costs nothing."""


@dataclass(slots=True)
class Attempt:
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


@dataclass(slots=True)
class Call:
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
    attempts: list[Attempt] = field(default_factory=list)
    arrived: float = field(default_factory=time.monotonic)
    timings: dict[str, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    answer_headers: tuple[tuple[str, str], ...] = ()
    target: Target | None = None
    tried_at: float = 0.0
    retried: int = 0
    waited: float = 0.0
    allowance: Allowance | None = field(default=None, repr=False)

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


@dataclass(slots=True)
class CallRecord:
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
    timings: Mapping[str, float] = field(default_factory=lambda: EMPTY)
    trace_id: str | None = None
    route: str = ""
    operation: str = "chat"
    state: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class RouteRecord:
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
