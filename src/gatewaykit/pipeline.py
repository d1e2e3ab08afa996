"""The request's way, from the first header to the last byte.

Request scope, once: authenticate, read, decode, route, limit, transform. Attempt scope, per target: see
:mod:`gatewaykit.attempts`. Then relay, settle, record. What was entered is left again, whatever happens in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from gatewaykit.admission import matches, require, require_model
from gatewaykit.errors import (
    BodyTooLarge,
    ClientGone,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    ModelNotFound,
    RequestTimeout,
    Unavailable,
)
from gatewaykit.exchange import Exchange
from gatewaykit.folding import spread, unfold
from gatewaykit.parts import Parts
from gatewaykit.protocols import Dialect, Permit
from gatewaykit.relay import StreamRelay, fold_metered
from gatewaykit.stepping import closing, within
from gatewaykit.types import INFERENCE, Call, Event, Model, ModelList, ModelsRequest, Request
from gatewaykit.watch import Receive, Watch

Acquire = Callable[[Call], Awaitable[Permit | None]]
logger = logging.getLogger(__name__)
_DISCARD_FACTOR = 8
_CLOSE = ("connection", "close")  # the rest of the body is not read


class Pipeline:
    """Serves the requests of all dialects; built once, with everything it needs.

    ``on_request`` are the hooks of those transforms that have something to do; a reload may replace them. ``stopping``
    says that it is the server that cuts calls off from now on.
    """

    def __init__(self, parts: Parts, on_request: Sequence[Callable[[Call], None]] = ()) -> None:
        self.on_request = on_request
        self.stopping = False
        self._parts = parts
        self._proceed = parts.around(self._innermost)
        self._direct = self._proceed == self._innermost and parts.on_event is None

    async def serve(
        self, methods: Mapping[str, Dialect], scope: Mapping[str, Any], receive: Receive, exchange: Exchange
    ) -> None:
        """Answer one request. Nothing is raised but cancellation; every request leaves one record."""
        exchange.dialect = methods.get(scope["method"]) or next(iter(methods.values()))
        try:
            await self._answered(methods, exchange, receive)
        except asyncio.CancelledError:
            if not self.stopping:
                exchange.error = ClientGone()
                raise
            await exchange.refuse(_stopping())
        except Exception as error:
            logger.error("request %s failed", exchange.incoming.request_id, exc_info=error)
            exchange.forget_headers()
            await exchange.refuse(InternalError())
        finally:
            self._parts.observe(exchange.seal())
            exchange.error = None  # its traceback leads back to the exchange: a circle, costly to collect

    async def _answered(self, methods: Mapping[str, Dialect], exchange: Exchange, receive: Receive) -> None:
        try:
            if exchange.incoming.method not in methods:
                raise MethodNotAllowed(headers=[("allow", ", ".join(sorted(methods)))])
            await self._answer(exchange, receive)
        except GatewayError as error:
            await exchange.refuse(error)

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
        for hook in self.on_request:
            hook(call)
        request: object = call.request
        if request is not decoded and not isinstance(request, Request):
            call.request = decoded
            raise TypeError(f"a transform left {type(request).__name__} for a request")
        wants_events = self._parts.on_event is not None or (self._parts.on_reply and not call.request.stream)
        call.raw_dialect = None if wants_events or call.request is not decoded else call.dialect

    def _route(self, call: Call) -> None:
        """Find targets. Only a model that this principal may use is looked for."""
        if isinstance(call.request, ModelsRequest):
            return
        require_model(call.principal, call.request.model)
        for route in self._parts.routes:
            call.targets = tuple(route(call) or ())
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
        except asyncio.CancelledError:
            if self.stopping:
                exchange.error = _stopping()
                await relay.fail(exchange.error)
            raise
        except GatewayError as error:
            exchange.error = error
            self._parts.attempts.broke(call, error)
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
        async with await self._parts.attempts.begun(call) as begun:
            await relay.run(begun.events, watch, begun.first, begun.blame)

    async def _complete(self, call: Call, exchange: Exchange, receive: Receive) -> None:
        """Answer in one piece. What nobody wants to see as events does not become events."""
        async with self._watch(receive) as watch:
            if self._direct and not isinstance(call.request, ModelsRequest):
                reply = await self._parts.attempts.whole(call)
                exchange.meter.take(reply)
            else:
                async with closing(self._proceed(call)) as events:
                    reply = await fold_metered(call, events, exchange.meter, self._parts.on_event)
            watch.end()
        if reply.usage is None and (reply.choices or reply.vectors):
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
            for event in unfold(await self._parts.attempts.whole(call)):
                yield event
            return
        async with await self._parts.attempts.begun(call) as begun:
            try:
                for event in spread(begun.first):
                    yield event
                async for arrived in begun.events:
                    for event in spread(arrived):
                        yield event
            except (Exception, asyncio.CancelledError) as cause:
                if (error := begun.blame(cause)) is cause:
                    raise
                raise error from cause

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


def _stopping() -> Unavailable:
    return Unavailable("The gateway stops, and did not wait any longer for this answer.", retry_after=1)


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
