"""The request's way, from the first header to the last byte.

Request scope, once: authenticate, read, decode, limit, route, transform. Attempt scope, per target: open, first event.
Then relay, settle, record. What was entered is left again, whatever happens in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase
from typing import Any

from gatewaykit.errors import (
    AuthFailed,
    BodyTooLarge,
    ClientGone,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    ModelNotFound,
    PermissionDenied,
    ProviderError,
    ProviderTimeout,
)
from gatewaykit.exchange import Exchange
from gatewaykit.folding import unfold
from gatewaykit.parts import Parts
from gatewaykit.protocols import Dialect, Permit
from gatewaykit.relay import StreamRelay, relay_reply
from gatewaykit.stepping import closing
from gatewaykit.types import Attempt, Call, Event, Model, ModelList, ModelsRequest, Principal, Target
from gatewaykit.watch import Receive, Watch

logger = logging.getLogger(__name__)
_DISCARD_FACTOR = 8
_CHALLENGE = ("www-authenticate", 'Bearer realm="gatewaykit"')


class Pipeline:
    """Serves the requests of all dialects; built once, with everything it needs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._proceed = parts.around(self._innermost)

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
            self._parts.observe(exchange.record())

    async def _answer(self, exchange: Exchange, receive: Receive) -> None:
        principal = await self._authenticate(exchange)
        exchange.lap("auth")
        body = await self._read(exchange, receive)
        call = exchange.accept(principal, body)
        async with self._permits(call, exchange):
            exchange.lap("limit")
            self._route(call)
            exchange.lap("route")
            self._transform(call)
            if call.request.stream:
                await self._stream(call, exchange, receive)
            else:
                await self._complete(call, exchange, receive)

    async def _authenticate(self, exchange: Exchange) -> Principal:
        for authenticate in self._parts.authenticators:
            principal = await authenticate(exchange.incoming)
            if principal is not None:
                exchange.principal = principal
                return principal
        given = {"authorization", "x-api-key"} & exchange.incoming.headers.keys()
        raise AuthFailed("This API key is not valid." if given else None, headers=[_CHALLENGE])

    async def _read(self, exchange: Exchange, receive: Receive) -> bytes:
        """The request's body. One that is too large is read on and thrown away, so that the client hears the answer."""
        if exchange.incoming.method in {"GET", "HEAD", "DELETE"}:
            return b""
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
            if not message.get("more_body", False) or size > limit * _DISCARD_FACTOR:
                break
        if size > limit:
            raise BodyTooLarge(f"The request body has more than {limit} bytes.")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _permits(self, call: Call, exchange: Exchange) -> AsyncExitStack:
        return _Permits(self._parts.limiters, call, exchange)

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
        if not _allowed(call.principal, call.request.model):
            raise PermissionDenied(f"This key has no access to the model {call.request.model!r}.", param="model")
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
            async with self._watch(receive, relay.comment) as watch, closing(self._proceed(call)) as events:
                await relay.run(events, watch)
        except ClientGone:
            raise
        except GatewayError as error:
            await relay.fail(error)
            raise
        except Exception:
            await relay.fail(InternalError())
            raise

    async def _complete(self, call: Call, exchange: Exchange, receive: Receive) -> None:
        parts = self._parts
        async with self._watch(receive) as watch:
            async with closing(self._proceed(call)) as events:
                reply = await relay_reply(call, events, exchange.meter, parts.on_event, parts.on_reply)
            body = exchange.dialect.encode_reply(call, reply)
            watch.end()
        await exchange.reply(body)

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
        """Try the targets in order until one says its first event; from then on there is no way back."""
        if isinstance(call.request, ModelsRequest):
            yield await self._catalogue(call, call.request.model)
            return
        for target in call.targets:
            began = time.monotonic()
            answered = False
            try:
                async with closing(self._open(call, target)) as events:
                    first = await self._first(events)
                    answered = True
                    call.attempts.append(Attempt(target, time.monotonic() - began))
                    if first is not None:
                        yield first
                    async for event in events:
                        yield event
                    return
            except Exception as cause:
                error = _blamed(cause, target)
                if not answered:
                    call.attempts.append(Attempt(target, time.monotonic() - began, error.code))
                if answered or not error.fallback or target is call.targets[-1]:
                    raise error from cause

    def _open(self, call: Call, target: Target) -> Any:
        if call.request.stream:
            return self._parts.providers[target.provider].stream(call, target)
        return self._in_one_piece(call, target)

    async def _in_one_piece(self, call: Call, target: Target) -> AsyncIterator[Event]:
        provider = self._parts.providers[target.provider]
        reply = await provider.complete(call, target)
        if reply is not None:
            for event in unfold(reply):
                yield event
            return
        async with closing(provider.stream(call, target)) as events:
            async for event in events:
                yield event

    async def _first(self, events: AsyncIterator[Event]) -> Event | None:
        try:
            async with asyncio.timeout(self._parts.limits.first_event):
                return await anext(events, None)
        except TimeoutError as error:
            raise ProviderTimeout(detail="no first event in time") from error

    async def _catalogue(self, call: Call, model: str) -> ModelList:
        found: dict[str, Model] = {}
        for models in self._parts.catalogues:
            for known in await models(call) or ():
                if _allowed(call.principal, known.id):
                    found.setdefault(known.id, known)
        if not model:
            return ModelList(tuple(found[name] for name in sorted(found)))
        if model not in found:
            raise ModelNotFound(f"The model {model!r} does not exist.", param="model")
        return ModelList((found[model],))


class _Permits(AsyncExitStack):
    """Acquires from every limiter on the way in; on the way out settles or releases each, last first."""

    def __init__(self, limiters: Any, call: Call, exchange: Exchange) -> None:
        super().__init__()
        self._limiters = limiters
        self._call = call
        self._exchange = exchange

    async def __aenter__(self) -> _Permits:
        try:
            for acquire in self._limiters:
                permit: Permit | None = await acquire(self._call)
                if permit is not None:
                    self.push_async_callback(self._leave, permit)
                    self._exchange.permit_headers.extend(permit.headers)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _leave(self, permit: Permit) -> None:
        usage = self._exchange.final_usage()
        leaving = permit.release() if usage is None else permit.settle(usage)
        await asyncio.shield(asyncio.ensure_future(leaving))


def _blamed(cause: Exception, target: Target) -> GatewayError:
    """``cause`` if it is an error of ours; else it is a defect of the provider's, and the log has it."""
    if isinstance(cause, GatewayError):
        return cause
    logger.error("provider %s failed: %s", target.provider, type(cause).__name__, exc_info=cause)
    return ProviderError(detail=f"{target.provider}: {type(cause).__name__}")


def _allowed(principal: Principal, model: str) -> bool:
    return any(pattern == "*" or fnmatchcase(model, pattern) for pattern in principal.models)
