"""Routes outside the request's way, guarded: who calls is asked of the gateway's authenticators, and errors are JSON.

::

    @hookimpl
    def gateway_routes(gateway):
        async def show(request, principal):
            return answer({"id": principal.id})

        return [Route("/api/admin/me", guarded(gateway, ADMIN, show))]
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gatewaykit.admission import require
from gatewaykit.dialects.openai_errors import encode_error
from gatewaykit.errors import BadRequest, BodyTooLarge, ClientGone, GatewayError, InternalError, RequestTimeout
from gatewaykit.exchange import error_headers, read_incoming
from gatewaykit.protocols import GatewayContext
from gatewaykit.stepping import within
from gatewaykit.types import Incoming, Principal

T = TypeVar("T")
Endpoint = Callable[[Request, Principal], Awaitable[Response]]
Answer = Callable[[Request], Awaitable[Response]]
MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 30.0
_DISCARDED = 64
"""How many times the allowed size is read and thrown away, so that a client that writes first hears its 413."""

_CLOSE = ("connection", "close")
_INCOMING = "gatewaykit.incoming"
_LONGEST = 200
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)
_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)


def guarded(gateway: GatewayContext, scope: str, endpoint: Endpoint) -> Answer:
    """A Starlette endpoint that only principals with ``scope`` reach.

    ``endpoint`` may raise errors of :mod:`gatewaykit.errors`; anything else it raises is a 500 without a word of why.
    No answer is stored by caches, and every one carries ``x-request-id``.
    """

    async def asked(request: Request) -> Response:
        incoming = incoming_of(request)
        principal = await gateway.authenticate(incoming)
        request.scope["gatewaykit.principal"] = principal
        require(principal, scope, incoming.path)
        return await endpoint(request, principal)

    return open_to_all(asked)


def open_to_all(endpoint: Answer) -> Answer:
    """A Starlette endpoint that everybody reaches; what becomes of its errors is as with :func:`guarded`."""

    async def answered(request: Request) -> Response:
        incoming = incoming_of(request)
        try:
            response = await endpoint(request)
        except GatewayError as error:
            if error.status >= 500:
                logger.warning("request %s: %s", incoming.request_id, error)
            response = _refused(error)
        except Exception as error:
            logger.error("request %s failed", incoming.request_id, exc_info=error)
            response = _refused(InternalError())
        response.headers["x-request-id"] = incoming.request_id
        response.headers["cache-control"] = "no-store"
        return response

    return answered


def incoming_of(request: Request) -> Incoming:
    """What the authenticators saw of this request: its id, the client's address, the path below the mount point."""
    known: Incoming | None = request.scope.get(_INCOMING)
    if known is None:
        path = request.scope.get("gatewaykit.path", request.url.path)
        known = request.scope[_INCOMING] = read_incoming(request.scope, path)
    return known


def answer(document: Any, status: int = 200) -> Response:
    """``document`` as JSON."""
    return Response(_encode(document), status, media_type="application/json")


async def read_bytes(request: Request) -> bytes:
    """The request's body as it came, up to :data:`MAX_BODY_BYTES`.

    Raises :class:`~gatewaykit.errors.BodyTooLarge`, :class:`~gatewaykit.errors.RequestTimeout` and
    :class:`~gatewaykit.errors.ClientGone`.
    """
    try:
        return await within(BODY_SECONDS, _read(request))
    except TimeoutError as error:
        raise RequestTimeout(headers=[_CLOSE]) from error


async def read_body(request: Request, kind: type[T]) -> T:
    """The request's JSON, as ``kind``: a msgspec Struct, say. No body at all counts as an empty object.

    Raises :class:`~gatewaykit.errors.BadRequest` that names the field, or what is wrong with the body as a whole.
    """
    body = await read_bytes(request)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("The body is not JSON that can be read.") from error


def read_query(request: Request, kind: type[T]) -> T:
    """The request's query parameters, as ``kind``; numbers and booleans are read from their text.

    Raises :class:`~gatewaykit.errors.BadRequest` that names the parameter, also for one that is given twice.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise BadRequest("This parameter is given more than once.", param=name[:_LONGEST])
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error


async def _read(request: Request) -> bytes:
    body, size = bytearray(), 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size <= MAX_BODY_BYTES:
                body += piece
            elif size > MAX_BODY_BYTES * _DISCARDED:
                raise BodyTooLarge(headers=[_CLOSE])
    except ClientDisconnect:
        raise ClientGone from None
    if size > MAX_BODY_BYTES:
        raise BodyTooLarge(f"The request body has more than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _invalid(error: msgspec.ValidationError) -> BadRequest:
    """msgspec's words, without the path at their end, which becomes the parameter."""
    what, mark, path = str(error).rpartition(" - at `$")
    if not mark:
        what, path = path, ""
    field = _FIELD.fullmatch(what)
    names = [path.rstrip("`").lstrip("."), field[1] if field else ""]
    param = ".".join(name for name in names if name)
    return BadRequest(what[:_LONGEST].rstrip(".") + ".", param=param[:_LONGEST] or None)


def _refused(error: GatewayError) -> Response:
    if isinstance(error, ClientGone):
        return _Silence()
    return Response(encode_error(error), error.status, dict(error_headers(error)), "application/json")


class _Silence(Response):
    """For a client that has left."""

    async def __call__(self, *_: Any) -> None:
        """Send nothing."""
