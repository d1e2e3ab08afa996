"""One API request on its way through: admission, fault, handler, answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .body import decode
from .faults import NO_FAULT, Fault, FaultSyntaxError
from .limits import Place
from .refusals import Refusal, api_refusal, empty_refusal, html_refusal, user_agent_refusal
from .stats import Entry
from .tokens import Grant
from .wire import ClientLeft, Wire

if TYPE_CHECKING:
    from .state import Sandbox

FAULT_HEADER = "x-sandbox-fault"
WIRE = "gatewaykit_gigachat.sandbox.wire"

_ECHOED = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?")
_FRONT_END = {
    "server": "SynGX",
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": "Origin, X-Requested-With, Content-Type, Accept, Authorization",
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "x-xss-protection": "1; mode=block",
}


@dataclass
class Call:
    """A request that is being answered."""

    request: Request
    sandbox: Sandbox
    wire: Wire
    path: str
    headers: dict[str, str]
    fault: Fault = NO_FAULT
    token: str | None = None
    body: bytes = b""
    place: Place = field(default_factory=Place)

    _grant: Grant | None = None

    @property
    def grant(self) -> Grant:
        """Whom the request comes from; only after admission."""
        if self._grant is None:
            raise api_refusal(401)
        return self._grant

    @grant.setter
    def grant(self, grant: Grant) -> None:
        self._grant = grant

    @property
    def client_id(self) -> str:
        """The caller's ``X-Client-ID``, or an empty text."""
        return str(self.request.headers.get("x-client-id", ""))

    def param(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; 400 for anything else."""
        return decode(self.body)

    @property
    def has_fault(self) -> bool:
        """Whether a fault befalls this request."""
        return self.fault is not NO_FAULT

    def meet(self, fault: Fault) -> None:
        """Let ``fault`` befall this request unless another one already does."""
        if not self.has_fault:
            self.fault = fault
            self.sandbox.stats.faults += 1

    async def suffer(self) -> None:
        """Undergo what the fault does before an answer; raises instead of answering."""
        fault = self.fault
        if fault.delay:
            async with self.wire.watch() as departure:
                await departure.pause(fault.delay)
        if fault.drop_before:
            self.place.leave()
            await self.wire.cut(flush=False)
        if fault.revoke_token and self.token is not None:
            self.sandbox.tokens.revoke(self.token)
            raise api_refusal(401, "Token has expired")
        self._refuse(fault)

    def _refuse(self, fault: Fault) -> None:
        headers = {} if fault.retry_after is None else {"retry-after": fault.retry_after}
        refusal: Refusal | None = None
        if fault.html is not None:
            refusal = html_refusal(fault.html)
        elif fault.empty is not None:
            refusal = empty_refusal(fault.empty)
        elif fault.status is not None:
            refusal = api_refusal(fault.status, fault.message)
        if refusal is not None:
            refusal.headers.update(headers)
            raise refusal


Handler = Callable[[Call], Awaitable[ASGIApp]]


class Endpoint:
    """An ASGI application around one handler; ``path`` is its name in counters and fault rules."""

    def __init__(self, path: str, handler: Handler, *, public: bool = False) -> None:
        self.path = path
        self._handler = handler
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        sandbox: Sandbox = request.app.state.sandbox
        wire = scope.get(WIRE) or Wire(receive, send)
        call = Call(request, sandbox, wire, self.path, _answer_headers(request.headers))
        sandbox.stats.requests[self.path] += 1

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                sandbox.stats.statuses[message["status"]] += 1
            await send(message)

        try:
            await self._answer(call, scope, receive, counted)
        except Refusal as refusal:
            await refusal.response(call.headers)(scope, receive, counted)
        except (ClientLeft, ClientDisconnect):
            sandbox.stats.cancelled_requests += 0 if wire.severed else 1

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        await self._read(call)
        if not self._public:
            admit(call)
        self._plan(call)
        if self.path in call.sandbox.settings.limited_paths:
            call.place = call.sandbox.parallel.enter(call.grant)
        try:
            await call.suffer()
            reply = await self._handler(call)
            await reply(scope, receive, send)
        finally:
            call.place.leave()

    async def _read(self, call: Call) -> None:
        request, settings = call.request, call.sandbox.settings
        limit = settings.max_upload if self.path == "/files" else settings.max_body
        call.body = await _read_limited(request, limit)
        call.sandbox.journal.add(Entry(request.method, self.path, dict(request.headers), call.body))

    def _plan(self, call: Call) -> None:
        header = call.request.headers.get(FAULT_HEADER)
        try:
            fault = Fault.parse(header) if header else call.sandbox.faults.take(self.path)
        except FaultSyntaxError as error:
            raise api_refusal(400, f"Sandbox fault: {error}") from error
        if fault is not None:
            call.meet(fault)


def admit(call: Call) -> None:
    """Check ``User-Agent`` and the access token."""
    settings, headers = call.sandbox.settings, call.request.headers
    if settings.require_user_agent and not headers.get("user-agent", "").strip():
        raise user_agent_refusal()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if not scheme and settings.anonymous_scope is not None:
        call.grant = Grant("certificate", settings.anonymous_scope, float("inf"))
        return
    if scheme.lower() != "bearer":
        raise api_refusal(401)
    call.grant = call.sandbox.tokens.grant(token.strip())
    call.token = token.strip()


def _answer_headers(headers: Mapping[str, str]) -> dict[str, str]:
    answer = dict(_FRONT_END)
    for name in ("x-request-id", "x-session-id"):
        value = headers.get(name, "")
        answer[name] = value if _ECHOED.fullmatch(value) else str(uuid.uuid4())
    client_id = headers.get("x-client-id", "")
    if _ECHOED.fullmatch(client_id):
        answer["x-client-id"] = client_id
    return answer


async def _read_limited(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise api_refusal(413)
        chunks.append(chunk)
    return b"".join(chunks)


async def refuse_http(request: Request, error: Exception) -> Response:
    """Render the router's own 404 and 405 in the API's shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return api_refusal(status, "Not Found" if status == 404 else None).response(_answer_headers(request.headers))
