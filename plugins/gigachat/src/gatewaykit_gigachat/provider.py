"""GigaChat as a provider: its chat API (v1), streamed and not, its embeddings, and its list of models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import TypeAlias, TypeVar

import msgspec

from gatewaykit.errors import BadRequest, GatewayError, NotFound, PermissionDenied, ProviderBadAnswer
from gatewaykit.http import HttpStream
from gatewaykit.limiting import Backend
from gatewaykit.metrics import Reading
from gatewaykit.protocols import Provider
from gatewaykit.types import Batch, Call, ChatRequest, ContentPart, Event, Model, Reply, Target, Vector

from .api import authorization_header, json_object
from .attachments import Attachments, named_files
from .connection import Connection, naming_secret, retries_of, trust
from .convert import AnswerReader, Translation, plain_reply, translate
from .credentials import authorized
from .embeddings import MOST_TEXTS, bodies, ignored, read_vectors, texts_of, usage_of
from .errors import MAX_ERROR_BYTES, Refused, api_refusal
from .files import GigaChatFiles
from .pool import Ask, Lease, Member, Pool, PoolSnapshot, QueueBounds, SharedSlots, WatchTimes, joined, readings
from .session import Sessions, client_id
from .settings import GigaChatSettings
from .streaming import event_batches

logger = logging.getLogger(__name__)

T = TypeVar("T")
Send: TypeAlias = Callable[["Prepared", Lease, str | None], Awaitable[T]]

_FILE_GONE = (NotFound, PermissionDenied)
"""What a request is refused with that names a file which is not there; their kinds mean something else."""
NO_FILES: Mapping[ContentPart, str] = {}
_CHAT = "/chat/completions"
_EMBEDDINGS = "/embeddings"
_DELETIONS_END = 10.0
"""Seconds that the deletion of uploads may hold up the gateway's stop."""


class Prepared(msgspec.Struct, gc=False):
    """A chat request, ready to be sent any number of times."""

    translation: Translation
    body: bytes
    headers: Mapping[str, str]
    files: Mapping[ContentPart, str]
    streamed: bool

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.body)} bytes>"


class Begun(msgspec.Struct, frozen=True):
    """A streamed answer whose first events have come; ``closing`` closes the connection and gives the place back."""

    first: list[Event]
    batches: AsyncIterator[list[Event]]
    lease: Lease
    closing: AsyncExitStack


class GigaChat(Provider):
    """GigaChat's models, by one credential or a pool of them.

    Each call has a place at one credential until its answer is over, and waits for it if need be. Calls are tried
    again, and a refused token is renewed once, until the first event of an answer is there. All errors are of
    :mod:`gatewaykit.errors`. It may serve several event loops; :meth:`aclose` closes what the running one has.

    ``places`` counts places together with other processes; without it this process counts for itself.
    """

    name = "gigachat"

    def __init__(self, settings: GigaChatSettings, places: Backend | None = None) -> None:
        context = trust(settings)
        self._retries = retries_of(settings)
        self._members = {
            name: (Connection(member, context, self._retries), member.slots)
            for name, member in settings.members.items()
        }
        self._settings = settings
        self._options = settings.convert_options
        self._sessions = Sessions(naming_secret(settings))
        self._weights = settings.queue.weights
        self._places = places
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(f'{name} {c.http!r}' for name, (c, _) in self._members.items())}>"

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        """The answer as it comes. The network is read ahead of the consumer by one read at most."""
        begun = await self._run(call, target, self._begin, streamed=True)
        async with begun.closing:
            yield Batch(begun.first)
            async for events in begun.batches:
                yield Batch(events)
            begun.lease.end()

    async def complete(self, call: Call, target: Target) -> Reply:
        """The answer in one piece."""
        return await self._run(call, target, self._whole, streamed=False)

    async def embed(self, call: Call, target: Target) -> Reply:
        """Vectors; many texts are sent in several requests, one after the other, with one credential."""
        request = call.embeddings
        texts = texts_of(request, self._settings.unsupported)
        requests = bodies(texts, target.model)
        headers = self._headers(call, "application/json")

        async def use(lease: Lease) -> Reply:
            reply = Reply(ignored=ignored(request))
            vectors: list[Vector] = []
            tokens = 0
            for body in requests:
                answer = await authorized(
                    lease.member.connection.credential,
                    partial(self._embedded, body, headers, lease),
                    self._settings.timeout,
                )
                wanted = min(MOST_TEXTS, len(texts) - len(vectors))
                reply.model, found, counted = read_vectors(answer, wanted)
                vectors += found
                tokens += counted
            lease.end()
            reply.vectors, reply.usage = tuple(vectors), usage_of(tokens)
            return reply

        return await self._placed(call, target, use)

    async def models(self) -> Sequence[Model]:
        """The models that any of the credentials sees now. Raises only if all of them fail."""
        connections = [connection for connection, _ in self._members.values()]
        if len(connections) == 1:
            return await connections[0].models()
        listed = await asyncio.gather(*(connection.models() for connection in connections), return_exceptions=True)
        found: dict[str, Model] = {}
        for models in listed:
            if isinstance(models, BaseException):
                if not isinstance(models, GatewayError) or all(isinstance(one, BaseException) for one in listed):
                    raise models
                logger.warning("gigachat: one of the credentials does not list its models: %s", models)
            else:
                for model in models:
                    found.setdefault(model.id, model)
        return list(found.values())

    def snapshot(self) -> PoolSnapshot:
        """How the credentials and the queue before them stand, in all event loops of this process."""
        return joined(pool.snapshot() for pool in tuple(self._pools.values()))

    def readings(self) -> Iterator[Reading]:
        """The same for the metrics."""
        pools = tuple(self._pools.values())
        yield from readings(self.name, self.snapshot(), [p.waits for p in pools], [p.positions for p in pools])

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Balances are watched while the gateway runs."""
        async with self._pool().lifespan():
            yield

    async def aclose(self) -> None:
        """Delete uploads, if that is the policy, and close what the running event loop has open."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            try:
                async with asyncio.timeout(_DELETIONS_END):
                    for member in pool.members:
                        await member.attachments.aclose()
            except TimeoutError:
                logger.warning("gigachat: some uploaded files could not be deleted in time and stay at the service")
            await pool.aclose()
        for connection, _ in self._members.values():
            await connection.aclose()

    def _pool(self) -> Pool:
        """The pool of the running event loop; those of loops that ended are dropped."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for ended in [known for known in self._pools if known.is_closed()]:
                del self._pools[ended]
            pool = self._pools[loop] = self._new_pool()
        return pool

    def _new_pool(self) -> Pool:
        settings, queue = self._settings, self._settings.queue
        members = []
        for name, (connection, slots) in self._members.items():
            store = GigaChatFiles(connection.api, settings.upload_timeout)
            members.append(Member(name, connection, Attachments(store, settings.attachments.options), slots=slots))
        return Pool(
            members,
            SharedSlots(self._places) if self._places is not None else None,
            QueueBounds(queue.max_waiting, queue.max_waiting_per_key, queue.max_wait),
            WatchTimes(longest_probe=settings.probe_interval, balance=settings.balance_interval),
        )

    async def _run(self, call: Call, target: Target, send: Send[T], *, streamed: bool) -> T:
        """What ``send`` gets at one of the credentials, with retries."""
        if _is_text(call.chat):
            text = self._translated(call, target, NO_FILES, streamed)
            return await self._placed(call, target, partial(self._send, call, target, text, send))
        named, owner, files = named_files(call.chat), client_id(call.principal.tenant), self._pool().files
        several = len(self._members) > 1
        only = await files.of_all(named, owner) if named and several else None
        try:
            return await self._placed(call, target, partial(self._with_files, call, target, send, streamed), only)
        except NotFound:
            files.forget(named, owner)
            raise

    async def _placed(
        self,
        call: Call,
        target: Target,
        use: Callable[[Lease], Awaitable[T]],
        only: frozenset[str] | None = None,
    ) -> T:
        """What ``use`` makes of a place at one of the credentials, or at one of ``only`` these, with retries."""
        pool = self._pool()
        key = call.principal.id
        ask = Ask(key, target.model, self._weights.get(key, 1.0), only)
        try:
            return await self._retries.run(partial(pool.run, ask, use), call.may_retry)
        finally:
            if ask.waited:
                call.timings["queue"] = call.timings.get("queue", 0.0) + ask.waited

    async def _with_files(self, call: Call, target: Target, send: Send[T], streamed: bool, lease: Lease) -> T:
        """The same for a request with files, which are uploaded with the same credential."""
        attachments, owner = lease.member.attachments, client_id(call.principal.tenant)
        finished = partial(attachments.finished, call, owner)

        async def sent() -> T:
            files = await attachments.resolve(call, owner)
            return await self._send(call, target, self._translated(call, target, files, streamed), send, lease)

        try:
            try:
                result = await sent()
            except Refused as refused:
                if type(refused.error) not in _FILE_GONE or not attachments.forget(call, owner):
                    raise
                result = await sent()
        except BaseException:
            await finished()
            raise
        if isinstance(result, Begun):
            result.closing.push_async_callback(finished)
        else:
            await finished()
        return result

    async def _send(self, call: Call, target: Target, prepared: Prepared, send: Send[T], lease: Lease) -> T:
        """What ``send`` gets; without ``functions_state_id`` where the model does not take it."""
        credential, seconds = lease.member.connection.credential, self._settings.timeout
        try:
            return await authorized(credential, partial(send, prepared, lease), seconds)
        except Refused as refused:
            if not isinstance(refused.error, BadRequest) or not _carries_state(prepared.translation):
                raise
        plain = msgspec.structs.replace(self._options, send_state_id=False)
        translation = translate(call.chat, target.model, plain, prepared.files)
        prepared = self._prepared(call, translation, prepared.files, prepared.streamed)
        return await authorized(credential, partial(send, prepared, lease), seconds)

    def _translated(self, call: Call, target: Target, files: Mapping[ContentPart, str], streamed: bool) -> Prepared:
        translation = translate(call.chat, target.model, self._options, files)
        return self._prepared(call, translation, files, streamed)

    def _prepared(
        self, call: Call, translation: Translation, files: Mapping[ContentPart, str], streamed: bool
    ) -> Prepared:
        headers = self._headers(call, "text/event-stream" if streamed else "application/json")
        headers["X-Session-ID"] = self._sessions.session_id(call)
        if streamed:
            headers["Cache-Control"] = "no-store"
        body = msgspec.json.encode({**translation.body, "stream": streamed})
        return Prepared(translation, body, headers, files, streamed)

    @staticmethod
    def _headers(call: Call, accept: str) -> dict[str, str]:
        return {
            "Accept": accept,
            "Content-Type": "application/json",
            "X-Client-ID": client_id(call.principal.tenant),
            "X-Request-ID": call.request_id,
        }

    @staticmethod
    async def _embedded(body: bytes, headers: Mapping[str, str], lease: Lease, authorization: str | None) -> bytes:
        """Sends the request and reads the answer."""
        sent = {**headers, **authorization_header(authorization)}
        async with lease.member.connection.http.stream("POST", _EMBEDDINGS, body=body, headers=sent) as answer:
            if answer.status != 200:
                raise await _refusal(answer)
            return await answer.read()

    async def _begin(self, prepared: Prepared, lease: Lease, authorization: str | None) -> Begun:
        """Sends the request and waits for the first events of a stream, which then keeps the place until its last."""
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(_post(prepared, lease, authorization))
            if answer.status != 200:
                raise await _refusal(answer)
            if not answer.is_event_stream:
                raise ProviderBadAnswer(detail="a stream was asked for, and something else came")
            blocks = await stack.enter_async_context(aclosing(answer.frames()))
            reader = AnswerReader(prepared.translation)
            batches = await stack.enter_async_context(aclosing(event_batches(blocks, reader)))
            first: list[Event] = await anext(batches, [])
            closing = AsyncExitStack()
            closing.callback(lease.end, whole=False)
            closing.push_async_exit(stack.pop_all())
            return Begun(first, batches, lease, closing)

    async def _whole(self, prepared: Prepared, lease: Lease, authorization: str | None) -> Reply:
        """Sends the request and reads the answer."""
        async with _post(prepared, lease, authorization) as answer:
            if answer.status != 200:
                raise await _refusal(answer)
            body = await answer.read()
        lease.end()
        document = json_object(body)
        return plain_reply(document, prepared.translation) or AnswerReader(prepared.translation).reply(document)


def _post(prepared: Prepared, lease: Lease, authorization: str | None) -> AbstractAsyncContextManager[HttpStream]:
    headers = {**prepared.headers, **authorization_header(authorization)}
    return lease.member.connection.http.stream("POST", _CHAT, body=prepared.body, headers=headers)


async def _refusal(answer: HttpStream) -> Refused:
    """What a status other than 200 means."""
    return api_refusal(answer.status, answer.headers, await answer.read(MAX_ERROR_BYTES))


def _is_text(request: ChatRequest) -> bool:
    """Whether there is nothing to upload: then no call need be kept track of."""
    for message in request.messages:  # noqa: SIM110 - a generator costs more than what it looks at
        if not isinstance(message.content, str):
            return False
    return True


def _carries_state(translation: Translation) -> bool:
    return any("functions_state_id" in message for message in translation.body.get("messages", ()))
