"""One HTTP exchange: what came in, what goes out, and the record that is left of it."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, cast

from gatewaykit import chance
from gatewaykit.errors import (
    BadRequest,
    ClientGone,
    ContentBlocked,
    GatewayError,
    InternalError,
    ProviderError,
    ProviderTimeout,
)
from gatewaykit.protocols import Dialect
from gatewaykit.relay import Meter
from gatewaykit.responding import Responder, Send
from gatewaykit.types import (
    EMPTY,
    Attempt,
    Call,
    CallRecord,
    Incoming,
    ModelsRequest,
    Outcome,
    Principal,
    Target,
    Usage,
)

logger = logging.getLogger(__name__)
_KEY = r"(?:gk[a-z]{0,2}|sk|rk|pk|gh[a-z]|xox[a-z]|glpat|hf)[-_][\w-]{16}|eyJ[\w-]{8}"
_REQUEST_ID = re.compile(rf"(?!{_KEY})[A-Za-z0-9._-]{{1,128}}")
"""What is kept with every record and told to everybody must not be a key that somebody put into the wrong header."""

_to_milliseconds = (1000.0).__mul__
_INVISIBLE = re.compile(rb"[^ -~]")
_LONGEST = 1024
_YEAR = 365 * 86_400
_CHALLENGE = ("www-authenticate", 'Bearer realm="gatewaykit"')
_OUTCOMES: tuple[tuple[type[GatewayError], Outcome], ...] = (
    (ClientGone, "client_gone"),
    (ProviderTimeout, "timeout"),
    (ProviderError, "provider_error"),
    (ContentBlocked, "blocked"),
    (InternalError, "failed"),
    (GatewayError, "refused"),
)
_JSON = (b"content-type", b"application/json")
_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


def read_incoming(scope: Mapping[str, Any], path: str) -> Incoming:
    """What an ASGI scope says of the request; ``path`` is relative to where the gateway is mounted.

    A client's ``x-request-id`` is kept if it is harmless and does not look like a key, else replaced.
    """
    raw = scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(headers) != len(raw):
        headers = _joined(raw)
    request_id = headers.get("x-request-id")
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        request_id = _new_id()
    client = scope.get("client")
    return Incoming(scope["method"], path, headers, client[0] if client else None, request_id)


def _new_id() -> str:
    """In the order of time, as UUIDs of version 7 are (RFC 9562, 5.7): so new ones lie side by side in an index."""
    return f"{int(time.time() * 1000):012x}{chance.bits(80):020x}"


def _joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers of which some are repeated (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class Exchange:
    """Gathers what is learnt on the request's way, so that answer headers and record need no second look."""

    dialect: Dialect

    def __init__(
        self,
        incoming: Incoming,
        send: Send,
        sealers: Sequence[Callable[[CallRecord], None]] = (),
        *,
        takes_whole: bool = False,
    ) -> None:
        self.incoming = incoming
        self.responder = Responder(send, self.seal if sealers else None, takes_whole=takes_whole)
        self.meter = Meter()
        self.principal: Principal | None = None
        self.call: Call | None = None
        self.error: GatewayError | None = None
        self.permit_headers: list[tuple[str, str] | tuple[bytes, bytes]] = []
        self.timings: dict[str, float] = {}
        self._sealers = sealers
        self._record: CallRecord | None = None
        self._began = time.time()
        self._arrived = self._lap = time.monotonic()

    def lap(self, stage: str) -> None:
        """The stage of this name is over."""
        now = time.monotonic()
        self.timings[stage] = now - self._lap
        self._lap = now

    def accept(self, principal: Principal, body: bytes) -> Call:
        """Decode ``body``: from here on there is a call."""
        self._lap = time.monotonic()
        try:
            request = self.dialect.decode(self.incoming, body)
        except BadRequest:
            if (encoding := self.incoming.headers.get("content-encoding", "identity")) == "identity":
                raise
            raise BadRequest(f"The body has the encoding {encoding[:60]!r}. Send it without any.") from None
        self.call = Call(
            incoming=self.incoming,
            principal=principal,
            dialect=self.dialect.name,
            request=request,
            body=body,
            arrived=self._arrived,
            timings=self.timings,
        )
        self.lap("decode")
        return self.call

    async def reply(self, body: bytes) -> None:
        """Answer in one piece."""
        headers = [_JSON, (b"content-length", b"%d" % len(body)), *self._headers()]
        await self.responder.whole(200, headers, body)

    def forget_headers(self) -> None:
        """Answer without the headers that plugins gave: it may be them that cannot be written."""
        self.permit_headers.clear()
        self.meter.ignored = ()
        if self.call is not None:
            self.call.answer_headers = ()

    async def refuse(self, error: GatewayError) -> None:
        """Answer with ``error``; when the response has begun, only remember it.

        Who has left is answered, too: servers drop it, and middlewares of a host may insist on an answer.
        """
        self.error = error
        if self.responder.started:
            return
        body = self.dialect.encode_error(error, self.incoming.request_id)
        headers = [_JSON, (b"content-length", b"%d" % len(body)), *self._headers()]
        headers += [_encoded(name, value) for name, value in error_headers(error)]
        try:
            await self.responder.start(error.status, headers)
            await self.responder.end(body)
        except ClientGone:
            return

    def stream_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of a stream, as its first event goes out."""
        return [*_STREAM, *self._headers()]

    def final_usage(self) -> Usage | None:
        """What the call used, estimated if the provider gave no figures; ``None`` when nothing was generated."""
        call = self.call
        if call is None or isinstance(call.request, ModelsRequest):
            return None
        return self.meter.final_usage(call.body)

    def seal(self) -> CallRecord:
        """The one record of this exchange, made when its answer is complete. Those who must not lose it have seen it
        when this returns.
        """
        if self._record is None:
            self._record = self._recorded()
            for keep in self._sealers:
                keep(self._record)
        return self._record

    def _recorded(self) -> CallRecord:
        call, meter, principal, error = self.call, self.meter, self.principal, self.error
        traceparent = self.incoming.headers.get("traceparent")
        target = _answering(call.attempts) if call else None
        if meter.miscounted and target is not None:
            _tell_once(target.provider)
        return CallRecord(
            request_id=self.incoming.request_id,
            began=self._began,
            method=self.incoming.method,
            path=self.incoming.path,
            dialect=self.dialect.name,
            status=self.responder.status or (error.status if error else 499),
            outcome="done" if error is None else _outcome(error),
            seconds=time.monotonic() - self._arrived,
            client=self.incoming.client,
            principal=principal.id if principal else None,
            owner=(principal.owner or None) if principal else None,
            tenant=principal.tenant if principal else None,
            model=call.request.model if call else None,
            stream=call.request.stream if call else False,
            target=target,
            attempts=tuple(call.attempts) if call else (),
            first_event_seconds=None if meter.first_event is None else meter.first_event - self._arrived,
            usage=self.final_usage(),
            error=error.code if error else None,
            timings=self.timings,
            trace_id=None if traceparent is None else self.incoming.trace_id,
            route=_route(self.dialect, self.incoming.path),
            operation=getattr(self.dialect, "operation", "chat"),
            state=call.state if call else EMPTY,
            traceparent=traceparent,
        )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", self.incoming.request_id.encode("ascii"))]
        if (call := self.call) is not None and call.attempts:
            last = call.attempts[-1]
            if last.error is None:
                headers.append(_target_header(last.target.name))
            if len(call.attempts) > 1:
                headers.append((b"x-gatewaykit-attempts", str(len(call.attempts)).encode()))
        if call is not None and call.answer_headers:
            headers += [_encoded(name, value) for name, value in call.answer_headers]
        if self.meter.ignored:
            headers.append(_encoded("x-gatewaykit-ignored", ", ".join(self.meter.ignored)))
        if self.permit_headers:
            headers += [_permitted(*header) for header in self.permit_headers]
        headers.append((b"server-timing", self._server_timing()))
        return headers

    def _server_timing(self) -> bytes:
        """Stages in milliseconds (W3C Server Timing). ``overhead`` is all that was not waiting for the provider."""
        whole = time.monotonic() - self._arrived
        timings = self.timings
        timings["provider"] = provider = self.call.waited if self.call else 0.0
        milliseconds = map(_to_milliseconds, timings.values())
        return _timing_template(tuple(timings)) % (*milliseconds, (whole - provider) * 1000)


def _route(dialect: Dialect, path: str) -> str:
    """Which of the dialect's paths this is: never more words than the code has."""
    for _, known in dialect.routes:
        if known == path or (known.endswith("/*") and path.startswith(known[:-1])):
            return known
    return ""


@cache
def _timing_template(stages: tuple[str, ...]) -> bytes:
    return b", ".join(stage.encode() + b";dur=%.2f" for stage in (*stages, "overhead"))


def error_headers(error: GatewayError) -> list[tuple[str, str]]:
    """The headers that belong to an error: its own, a challenge, when to come back, and whether to."""
    headers = list(error.headers)
    if error.status == 401 and not any(name.lower() == _CHALLENGE[0] for name, _ in headers):
        headers.append(_CHALLENGE)
    if error.retry_after is not None and not math.isnan(error.retry_after):
        headers.append(("retry-after", str(max(1, math.ceil(min(error.retry_after, _YEAR))))))
    if error.code == "insufficient_quota" or error.retry_after == math.inf:
        headers.append(("x-should-retry", "false"))
    return headers


@lru_cache(maxsize=1024)
def _target_header(name: str) -> tuple[bytes, bytes]:
    return _encoded("x-gatewaykit-target", name)


@lru_cache(maxsize=256)
def _encoded_name(name: str) -> bytes:
    return name.lower().encode("ascii")


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    """A header that cannot break out of its line nor grow without end, whatever a model or a parameter is called."""
    if len(value) <= _LONGEST and value.isascii() and value.isprintable():
        return _encoded_name(name), value.encode("ascii")
    visible = _INVISIBLE.sub(b" ", value[:_LONGEST].encode("ascii", "backslashreplace"))
    return _encoded_name(name), visible[:_LONGEST]


def _permitted(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    """A header of a permit: for bytes the limiter vouches."""
    if isinstance(name, bytes) and isinstance(value, bytes):
        return name, value
    return _encoded(cast("str", name), cast("str", value))


@lru_cache(maxsize=1024)
def _tell_once(provider: str) -> None:
    """The log need not say it of every call."""
    logger.warning("provider %s gives a usage that is no number of tokens: it is estimated", provider)


def _answering(attempts: Sequence[Attempt]) -> Target | None:
    """The target that answered, or began to."""
    for attempt in reversed(attempts):
        if attempt.error is None:
            return attempt.target
    return None


def _outcome(error: GatewayError) -> Outcome:
    return next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
