"""What plugins give to the gateway: small protocols, one for each kind of object that a hook returns.

Subclass a protocol to inherit its defaults, or satisfy it by shape. Every object has a ``name`` that is unique among
its kind. All of them may declare, as class or instance attributes:

``before``, ``after``
    names of objects of the same kind that must come later or earlier; they need not be installed.
``tier``
    a number that orders objects without a declared relation; lower comes first, 0 is usual.
``on_error``
    what an unexpected exception or a missed deadline means: ``"closed"`` refuses the request, ``"open"`` goes on as if
    the object were not there.
``deadline``
    seconds that an asynchronous hook may wait; the setting ``timeouts.hook`` is the default.
``lifespan``
    a method that returns an asynchronous context manager, entered when the gateway starts and left when it stops.
``readings``
    a method that tells in numbers how the object stands: it returns :class:`~gatewaykit.metrics.Reading` objects. It is
    called from any thread, whenever somebody looks at the metrics, and may not wait.
``reload``
    a method that gets newly read settings, checks them, and returns a function that puts them into force; all objects
    are asked before any of these functions is called. ``reloads`` names the sections that it heeds.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from gatewaykit.errors import GatewayError, ModelNotFound
from gatewaykit.limits import Standing
from gatewaykit.metrics import Reading
from gatewaykit.metrics.totals import Report, Totals
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

if TYPE_CHECKING:
    from gatewaykit.attempts.targets import Targets
    from gatewaykit.redislink import RedisLink
    from gatewaykit.storage import Storage

OnError: TypeAlias = Literal["closed", "open"]
Proceed: TypeAlias = Callable[[Call], AsyncIterator[Event]]
Lifespan: TypeAlias = AbstractAsyncContextManager[None]
SectionT = TypeVar("SectionT")


class Named(Protocol):
    """What every object from a hook has."""

    name: str


class Ordered(Protocol):
    """The ordering and failure attributes described above, with their defaults."""

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


class Permit(Protocol):
    """What a limiter reserved for a call. Exactly one of the two methods is called, and both are idempotent.

    ``instant`` says that neither ever waits: then no task is made for leaving it.
    """

    instant: bool = False

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Headers for the answer, such as ``x-ratelimit-remaining-requests``."""
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
        """Targets for ``call.chat.model``, best first; empty when this router does not know the model."""
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
        """May replace ``call.request`` (with :func:`dataclasses.replace`) or raise an error for the client."""
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


class Tally(Protocol):
    """Sums that all worker processes share, and that outlive each of them."""

    def contribute(self, report: Callable[[], Report]) -> None:
        """Ask ``report`` for what is new, in this process: every second, and whenever somebody reads.

        It is called by one thread at a time, never by the event loop's, and may not wait. What it returned is counted;
        it is not asked for the same again.
        """
        ...

    async def read(self) -> Totals:
        """The sums of all processes, with what each of them has just reported."""
        ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload: sections that are ``in_force`` now, and those that have changed and ``wait`` for a
    restart.
    """

    in_force: tuple[str, ...]
    wait: tuple[str, ...]


class Settings(Protocol):
    """The validated settings, by section."""

    def get(self, section: type[SectionT]) -> SectionT:
        """The settings of this section's class, as it was declared in ``gateway_settings``."""
        ...


class GatewayContext(Protocol):
    """The gateway as plugins see it while it is put together."""

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        ...

    @property
    def providers(self) -> Mapping[str, Provider]:
        """All providers by name; complete in every hook but ``gateway_providers``."""
        ...

    @property
    def routers(self) -> Mapping[str, Router]:
        """All routers by name; complete in ``gateway_routes`` and whatever runs later."""
        ...

    @property
    def storage(self) -> Storage | None:
        """The database of ``[database]``, open while the gateway runs; None without one."""
        ...

    @property
    def redis(self) -> RedisLink | None:
        """The Redis of ``[redis]``, connected while the gateway runs; None without one."""
        ...

    def knows(self, model: str) -> bool:
        """Whether a router knows this name by itself; see :meth:`Router.knows`."""
        ...

    @property
    def tally(self) -> Tally:
        """What the workers count together."""
        ...

    def readings(self) -> Sequence[Reading]:
        """How everything in this process stands that has ``readings``, the gateway's own parts included."""
        ...

    @property
    def targets(self) -> Targets:
        """What is known of every target in this process, and what attempts came to."""
        ...

    async def authenticate(self, incoming: Incoming) -> Principal:
        """Who calls, by the gateway's authenticators: for routes of your own. See :func:`gatewaykit.guarding.guarded`.

        Raises :class:`~gatewaykit.errors.AuthFailed`, or what an authenticator raises.
        """
        ...

    async def standings(self, principal: Principal) -> Sequence[Standing]:
        """How the principal's own limits stand, as its limiters tell."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the gateway has started, in the running event loop."""
        ...

    def reload(self, *, everywhere: bool = False) -> Reloaded:
        """Read the configuration again and put into force what can be changed while the gateway runs.

        ``everywhere`` asks the other workers of this machine to do the same. Raises
        :class:`~gatewaykit.errors.ConfigError` with every fault; then nothing has changed.
        """
        ...

    @property
    def logger(self) -> logging.Logger:
        """The gateway's logger; modules may as well use their own."""
        ...
