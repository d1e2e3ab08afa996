"""The kinds of objects that hooks return."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal, Protocol, TypeAlias

from msgspec import Struct

from gatewaykit.errors import GatewayError, ModelNotFound
from gatewaykit.limits import Forecast, Standing
from gatewaykit.metrics import Reading
from gatewaykit.types import (
    Call,
    CallRecord,
    Event,
    Incoming,
    Model,
    Principal,
    Reply,
    Request,
    RouteRecord,
    Target,
    Usage,
)

OnError: TypeAlias = Literal["closed", "open"]
Proceed: TypeAlias = Callable[[Call], AsyncIterator[Event]]
Lifespan: TypeAlias = AbstractAsyncContextManager[None]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Named(Protocol):
    """What every object from a hook has."""

    name: str


class Ordered(Protocol):
    """The ordering and failure attributes that :mod:`gatewaykit.protocols` describes, with their defaults."""

    before: Sequence[str] = ()
    after: Sequence[str] = ()
    tier: int = 0
    on_error: OnError = "closed"
    deadline: float | None = None


class Provider(Named, Protocol):
    """A source of answers.

    ``native_dialects`` names the client dialects whose bytes it can pass on unread (see :class:`gatewaykit.types.Raw`).
    """

    native_dialects: ClassVar[frozenset[str]] = frozenset()

    def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        """Answer ``call.chat`` with ``target.model``, event by event, until :class:`~gatewaykit.types.Finished`.

        Usually an ``async def`` with ``yield``. Closing the iterator must close the connection to the provider. Raise
        errors from :mod:`gatewaykit.errors`; those of :class:`gatewaykit.http.HttpClient` are of that kind already.
        The gateway tries again what may pass; a provider that does so itself asks :meth:`Call.may_retry
        <gatewaykit.types.Call.may_retry>` first. Under hedging the iterator is begun in one task and read in another.
        """
        ...

    async def complete(self, call: Call, target: Target) -> Reply | None:
        """Answer in one piece, where that is cheaper; ``None`` (the default) folds :meth:`stream`."""
        return None

    async def embed(self, call: Call, target: Target) -> Reply:
        """Vectors for ``call.embeddings.input`` by ``target.model``: a reply with ``vectors``, or with ``raw``.

        ``raw`` is for calls whose ``raw_dialect`` the provider speaks. By default there are no vectors:
        :class:`~gatewaykit.errors.ModelNotFound`.
        """
        raise ModelNotFound(f"The model {target.model!r} makes no embeddings.", param="model")

    async def models(self) -> Sequence[Model]:
        """The models on offer now; an empty list says that the provider cannot tell."""
        return ()

    async def aclose(self) -> None:
        """Release connections; called when the gateway stops, in each event loop in which it ran."""
        return


class Known(Struct, frozen=True):
    """Somebody who is known by an id: the principal that a call would come from now, and in a word what ``bars`` such
    calls (``disabled``, ``expired``, ``revoked``), empty where nothing does. They may come from ``networks``, or from
    anywhere if there are none.
    """

    principal: Principal
    bars: str = ""
    networks: tuple[Network, ...] = ()


class Authenticator(Named, Protocol):
    """Says who calls. Authenticators are asked in order until one knows.

    One that only asks or stops others, such as a throttle, says ``identifies = False``: alone it guards nothing.
    """

    async def authenticate(self, incoming: Incoming) -> Principal | None:
        """The caller; ``None`` for credentials of another kind (ask the next one).

        Raises :class:`~gatewaykit.errors.AuthFailed` for credentials of this kind that are not valid.
        """
        ...

    def judged(self, incoming: Incoming, principal: Principal | None) -> None:
        """What came of asking everybody: the caller, or None for one who was refused. Override it to learn from that;
        it runs on the client's time.
        """
        return

    def challenge(self, incoming: Incoming) -> str | None:
        """What a ``WWW-Authenticate`` of a 401 says (RFC 9110, 11.6.1), whoever refused the request. Override it to
        tell where credentials of this kind come from.
        """
        return None

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """Who has this :attr:`~gatewaykit.types.Principal.id`, or begins with it, where that is one only; for operators
        who ask what somebody may do. ``None`` for ids of another kind. Nobody comes in by it.

        Raises :class:`~gatewaykit.errors.BadRequest` for the beginning of several.
        """
        return None


class Permit(Protocol):
    """What a limiter reserved for a call. Exactly one of the two methods is called, and both are idempotent.

    ``instant`` says that neither ever waits: then no task is made for leaving it.
    """

    instant: bool = False

    @property
    def headers(self) -> Sequence[tuple[str, str] | tuple[bytes, bytes]]:
        """Headers for the answer, such as ``x-ratelimit-remaining-requests``. Bytes go out as they are, and cost less:
        names in lower case, and nothing in the values that a client could have written.
        """
        ...

    async def settle(self, usage: Usage | None) -> None:
        """The call was answered, wholly or in part: replace the reservation by ``usage``."""
        ...

    async def release(self) -> None:
        """The call was not answered: give the reservation back."""
        ...


class Limiter(Named, Protocol):
    """Decides, before anything is spent, whether a call may go on."""

    async def acquire(self, call: Call) -> Permit | None:
        """Reserve what the call may use; ``None`` when this limiter does not concern it.

        Raises :class:`~gatewaykit.errors.RateLimited` or :class:`~gatewaykit.errors.QuotaExhausted`.
        """
        ...

    async def standings(self, principal: Principal) -> Sequence[Standing]:
        """How the limits stand of which ``principal`` may know: those of its key and its account."""
        return ()

    async def foretell(self, call: Call) -> Sequence[Forecast]:
        """What :meth:`acquire` would decide on, limit by limit, without counting anything; for operators.

        Raises what :meth:`acquire` raises for another reason than a limit.
        """
        return ()


class Encoder(Protocol):
    """Turns the events of one stream into bytes; it lives as long as that stream."""

    def encode(self, event: Event) -> bytes:
        """The frames for this event; empty when the dialect has none for it."""
        ...

    def finish(self) -> bytes:
        """The frames after the last event of a stream that ended well."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """The frame that reports an error after the answer has begun; the body is closed behind it."""
        ...


class Dialect(Named, Protocol):
    """A wire format that clients speak.

    ``routes`` are ``(method, path)`` pairs; a path that ends in ``/*`` matches everything below it. ``operation`` is
    OpenTelemetry's word for what its requests ask of a model (``gen_ai.operation.name``); empty if they ask none.
    """

    routes: Sequence[tuple[str, str]]
    operation: str = "chat"

    def decode(self, incoming: Incoming, body: bytes) -> Request:
        """The request in the gateway's words. Raises :class:`~gatewaykit.errors.BadRequest` naming the field."""
        ...

    def encoder(self, call: Call) -> Encoder:
        """A new encoder for the stream that answers ``call``."""
        ...

    def encode_reply(self, call: Call, reply: Reply) -> bytes:
        """The JSON body of an answer in one piece."""
        ...

    def encode_error(self, error: GatewayError, request_id: str) -> bytes:
        """The JSON body of an error."""
        ...


class Router(Named, Protocol):
    """Knows where models are. Routers are asked in order until one returns a target.

    :meth:`route` may not wait: tables are refreshed elsewhere.
    """

    def route(self, call: Call) -> Sequence[Target]:
        """Targets for ``call.request.model``, best first; empty when this router does not know the model."""
        ...

    async def models(self, call: Call) -> Sequence[Model]:
        """The models that a client may ask for through this router."""
        ...

    def knows(self, model: str) -> bool:
        """Whether this name is written down somewhere, in a list of models or the configuration.

        Other names have no place in metrics. Called from any thread; may not wait.
        """
        return False


class Transform(Named, Protocol):
    """Changes what passes. Override what you need: what is not overridden costs nothing."""

    def on_request(self, call: Call) -> None:
        """May replace ``call.request`` (with :func:`msgspec.structs.replace`) or raise an error for the client."""
        return

    def on_attempt(self, call: Call, target: Target) -> None:
        """``call`` is about to be tried at ``target``, in the running task; there may be other attempts."""
        return

    def on_event(self, call: Call, event: Event) -> Event | None:
        """The event to pass on, changed or not; ``None`` drops it. Called for each event: be quick."""
        return event

    def on_reply(self, call: Call, reply: Reply) -> Reply:
        """The answer in one piece to pass on; called only for requests that are not streamed."""
        return reply


class AroundCall(Named, Protocol):
    """Wraps the whole call, stream included: a cache, a guard, a tracer."""

    def around(self, call: Call, proceed: Proceed) -> AsyncIterator[Event]:
        """Yield the events for the client: those of ``proceed(call)``, or others instead of it.

        Usually an ``async def`` with ``yield``; close what ``proceed`` returned (``contextlib.aclosing``).
        """
        ...


class Observer(Named, Protocol):
    """Sees what happened, in a thread of its own and never on a client's time. Failing observers harm nobody."""

    def seal(self, record: CallRecord) -> None:
        """The answer is complete, and its last byte not sent yet: for those who may not lose a record when the process
        dies. Once for each call, before :meth:`record`. It runs in the event loop, on the client's time: microseconds,
        no waiting. Override it only for that.
        """
        return

    def record(self, record: CallRecord) -> None:
        """One call is over."""
        return

    def flush(self) -> None:
        """A batch of records is over; called after one or more :meth:`record`."""
        return

    def routed(self, record: RouteRecord) -> None:
        """A request outside the dialects is over: to a plugin's route, or to nowhere. It runs in the event loop."""
        return


class Readable(Named, Protocol):
    """Tells in numbers how something stands that no other object of the plugin speaks for."""

    def readings(self) -> Iterable[Reading]:
        """The numbers now. Called from any thread, whenever somebody looks at the metrics; may not wait."""
        ...
