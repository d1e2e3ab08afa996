"""The request's way, from the first header to the last byte.

Request scope, once: authenticate, read, decode, route, limit, transform. Attempt scope, per target: open, first event.
Then relay, settle, record. What was entered is left again, whatever happens in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from gatewaykit.admission import denied, matches, require
from gatewaykit.errors import (
    BodyTooLarge,
    ClientGone,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    ModelNotFound,
    ProviderBadAnswer,
    ProviderError,
    ProviderTimeout,
    RequestTimeout,
)
from gatewaykit.exchange import Exchange
from gatewaykit.folding import fold, spread, unfold
from gatewaykit.parts import Parts
from gatewaykit.protocols import Dialect, Permit
from gatewaykit.relay import StreamRelay, fold_metered
from gatewaykit.stepping import closing, within
from gatewaykit.types import INFERENCE, Attempt, Call, Event, Model, ModelList, ModelsRequest, Reply, Target
from gatewaykit.watch import Receive, Watch

T = TypeVar("T")
Acquire = Callable[[Call], Awaitable[Permit | None]]
logger = logging.getLogger(__name__)
_DISCARD_FACTOR = 8
_CLOSE = ("connection", "close")  # the rest of the body is not read


class Pipeline:
    """Serves the requests of all dialects; built once, with everything it needs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._proceed = parts.around(self._innermost)
        self._direct = self._proceed == self._innermost and parts.on_event is None

    async def serve(
        self, methods: Mapping[str, Dialect], scope: Mapping[str, Any], receive: Receive, exchange: Exchange
    ) -> None:
        """Answer one request. Nothing is raised but cancellation; every request leaves one record."""
        try:
            exchange.dialect = methods.get(scope["method"]) or next(iter(methods.values()))
            if scope["method"] not in methods:
                raise MethodNotAllowed(headers=[("allow", ", ".join(sorted(methods)))])
            await self._answer(exchange, receive)
        except GatewayError as error:
            await exchange.refuse(error)
        except asyncio.CancelledError:
            exchange.error = ClientGone()
            raise
        except Exception as error:
            logger.error("request %s failed", exchange.incoming.request_id, exc_info=error)
            await exchange.refuse(InternalError())
        finally:
            self._parts.observe(exchange.seal())

    async def _answer(self, exchange: Exchange, receive: Receive) -> None:
        principal = exchange.principal = await self._parts.door.admit(exchange.incoming)
        require(principal, INFERENCE, exchange.incoming.path)
        exchange.lap("auth")
        body = await self._body(exchange, receive)
        call = exchange.accept(principal, body)
        self._route(call)
        exchange.lap("route")
        async with _Permits(self._parts.limiters, call, exchange):
            exchange.lap("limit")
            self._transform(call)
            if call.request.stream:
                await self._stream(call, exchange, receive)
            else:
                await self._complete(call, exchange, receive)

    async def _body(self, exchange: Exchange, receive: Receive) -> bytes:
        if exchange.incoming.method in {"GET", "HEAD", "DELETE"}:
            return b""
        try:
            return await within(self._parts.limits.request_body, self._read(receive))
        except TimeoutError as error:
            raise RequestTimeout(headers=[_CLOSE]) from error

    async def _read(self, receive: Receive) -> bytes:
        """The request's body. One that is too large is read on and thrown away, so that the client hears the answer."""
        limit = self._parts.max_body_bytes
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            if not message.get("more_body", False):
                break
            if size > limit * _DISCARD_FACTOR:
                raise BodyTooLarge(headers=[_CLOSE])
        if size > limit:
            raise BodyTooLarge(f"The request body has more than {limit} bytes.")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _transform(self, call: Call) -> None:
        decoded = call.request
        for hook in self._parts.on_request:
            hook(call)
        wants_events = self._parts.on_event is not None or (self._parts.on_reply and not call.request.stream)
        call.raw_dialect = None if wants_events or call.request is not decoded else call.dialect

    def _route(self, call: Call) -> None:
        """Find targets. Only a model that this principal may use is looked for."""
        if isinstance(call.request, ModelsRequest):
            return
        if not matches(call.principal.models, call.request.model):
            message = f"This key has no access to the model {call.request.model!r}."
            raise denied(call.principal, message, param="model")
        for route in self._parts.routes:
            call.targets = tuple(route(call))
            if call.targets:
                return
        raise ModelNotFound(f"The model {call.request.model!r} does not exist.", param="model")

    async def _stream(self, call: Call, exchange: Exchange, receive: Receive) -> None:
        encoder = exchange.dialect.encoder(call)
        relay = StreamRelay(
            call, encoder, exchange.responder, exchange.meter, self._parts.on_event, exchange.stream_headers
        )
        try:
            async with self._watch(receive, relay.comment) as watch:
                await self._relayed(call, relay, watch)
        except ClientGone:
            raise
        except GatewayError as error:
            exchange.error = error
            await relay.fail(error)
            raise
        except Exception:
            exchange.error = InternalError()
            await relay.fail(exchange.error)
            raise

    async def _relayed(self, call: Call, relay: StreamRelay, watch: Watch) -> None:
        """Relay the provider's own stream where nobody stands between, to save a step for each of its events."""
        if not self._direct or isinstance(call.request, ModelsRequest):
            async with closing(self._proceed(call)) as events:
                await relay.run(events, watch)
            return
        first, events = await self._attempt(call, self._begun)
        target = call.attempts[-1].target
        async with closing(events):
            await relay.run(events, watch, first, lambda cause: _blamed(cause, target))

    async def _complete(self, call: Call, exchange: Exchange, receive: Receive) -> None:
        """Answer in one piece. What nobody wants to see as events does not become events."""
        async with self._watch(receive) as watch:
            if self._direct and not isinstance(call.request, ModelsRequest):
                reply = await self._attempt(call, self._whole)
                exchange.meter.take(reply)
            else:
                async with closing(self._proceed(call)) as events:
                    reply = await fold_metered(call, events, exchange.meter, self._parts.on_event)
            watch.end()
        if reply.usage is None and reply.choices:
            reply.usage = exchange.final_usage()
        for hook in self._parts.on_reply:
            reply = hook(call, reply)
        await exchange.reply(exchange.dialect.encode_reply(call, reply))

    def _watch(self, receive: Receive, idle: Callable[[], Any] | None = None) -> Watch:
        limits = self._parts.limits
        return Watch(
            receive,
            between=limits.between_events,
            whole=limits.whole_call,
            keepalive=limits.keepalive,
            idle=idle,
        )

    async def _innermost(self, call: Call) -> AsyncIterator[Event]:
        """The events of whichever target answers; from the first one on there is no way back."""
        if isinstance(call.request, ModelsRequest):
            yield await self._catalogue(call, call.request.model)
            return
        if not call.request.stream:
            for event in unfold(await self._attempt(call, self._whole)):
                yield event
            return
        first, events = await self._attempt(call, self._begun)
        async with closing(events):
            try:
                for event in spread(first):
                    yield event
                async for arrived in events:
                    for event in spread(arrived):
                        yield event
            except Exception as cause:
                raise _blamed(cause, call.attempts[-1].target) from cause

    async def _attempt(self, call: Call, open_: Callable[[Call, Target], Awaitable[T]]) -> T:
        """Try the targets in order until one answers."""
        for target in call.targets:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._parts.limits.first_event):
                    opened = await open_(call, target)
            except asyncio.CancelledError:
                call.attempts.append(Attempt(target, time.monotonic() - began, "cancelled"))
                raise
            except Exception as cause:
                error = _blamed(cause, target)
                call.attempts.append(Attempt(target, time.monotonic() - began, error.code))
                if not error.fallback or target is call.targets[-1]:
                    raise error from cause
            else:
                call.attempts.append(Attempt(target, time.monotonic() - began))
                return opened
        raise ModelNotFound

    async def _begun(self, call: Call, target: Target) -> tuple[Event, AsyncIterator[Event]]:
        """A stream with its first event."""
        events = self._parts.providers[target.provider].stream(call, target)
        try:
            return await anext(events), events
        except BaseException as error:
            async with closing(events):
                if isinstance(error, StopAsyncIteration):
                    raise ProviderBadAnswer(detail="the stream is empty") from error
                raise

    async def _whole(self, call: Call, target: Target) -> Reply:
        """An answer in one piece, which the provider makes itself or which its stream adds up to."""
        provider = self._parts.providers[target.provider]
        reply = await provider.complete(call, target)
        if reply is not None:
            return reply
        async with closing(provider.stream(call, target)) as events:
            return await fold(events)

    async def _catalogue(self, call: Call, model: str) -> ModelList:
        found: dict[str, Model] = {}
        for models in self._parts.catalogues:
            for known in await models(call) or ():
                if matches(call.principal.models, known.id):
                    found.setdefault(known.id, known)
        if not model:
            return ModelList(tuple(found[name] for name in sorted(found)))
        if model not in found:
            raise ModelNotFound(f"The model {model!r} does not exist.", param="model")
        return ModelList((found[model],))


class _Permits:
    """Acquires from every limiter on the way in; on the way out settles or releases each, last first."""

    def __init__(self, limiters: Sequence[Acquire], call: Call, exchange: Exchange) -> None:
        self._limiters = limiters
        self._call = call
        self._exchange = exchange
        self._held: list[Permit] = []

    async def __aenter__(self) -> None:
        try:
            for acquire in self._limiters:
                permit = await acquire(self._call)
                if permit is not None:
                    self._held.append(permit)
                    self._exchange.permit_headers.extend(permit.headers)
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        if not self._held:
            return
        if all(permit.instant for permit in self._held):
            await self._leave()
        else:
            await asyncio.shield(asyncio.ensure_future(self._leave()))

    async def _leave(self) -> None:
        answered = self._exchange.meter.first_event is not None
        usage = self._exchange.final_usage()
        for permit in reversed(self._held):
            await (permit.settle(usage) if answered else permit.release())


def _blamed(cause: Exception, target: Target) -> GatewayError:
    """``cause`` if it is an error of ours; else it is the provider's defect, and the log has it."""
    if isinstance(cause, GatewayError):
        return cause
    if isinstance(cause, TimeoutError):
        return ProviderTimeout(detail=f"{target.provider}: no answer in time")
    logger.error("provider %s failed: %s", target.provider, type(cause).__name__, exc_info=cause)
    return ProviderError(detail=f"{target.provider}: {type(cause).__name__}")
