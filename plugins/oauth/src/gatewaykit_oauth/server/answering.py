"""Answers of the protocol's endpoints: JSON that no cache keeps, errors in OAuth's shape, and never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatewaykit.errors import BadRequest, ClientGone, GatewayError, PermissionDenied, RateLimited
from gatewaykit.guarding import incoming_of

from .errors import Forbidden, InvalidRequestError, OAuth2Error, TemporarilyUnavailable, TooManyRequests

Endpoint = Callable[[Request], Awaitable[Response]]
_ALL = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_KEPT_BY_NOBODY = {"cache-control": "no-store", "pragma": "no-cache"}
_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)


def document(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content`` as JSON, not to be stored unless ``headers`` say otherwise (RFC 6749, 5.1)."""
    return Response(_encode(content), status, {**_KEPT_BY_NOBODY, **(headers or {})}, "application/json")


def endpoint(path: str, answer: Endpoint, *methods: str, shared: bool = True) -> Route:
    """A route of the protocol, for these methods only.

    ``shared``: programs in a browser may call it from anywhere, without credentials of the browser (RFC 9700, 2.6).
    """

    async def answered(request: Request) -> Response:
        if request.method == "OPTIONS" and shared:
            response = Response(status_code=204, headers=_preflight(methods))
        elif request.method not in methods:
            allowed = {"allow": ", ".join(methods)}
            response = document(_body(InvalidRequestError("This method is not allowed here.")), 405, allowed)
        else:
            response = await _safely(request, answer)
        if shared:
            response.headers["access-control-allow-origin"] = "*"
            response.headers["access-control-expose-headers"] = "dpop-nonce, www-authenticate"
        response.headers["x-request-id"] = incoming_of(request).request_id
        return response

    return Route(path, answered, methods=_ALL)


async def _safely(request: Request, answer: Endpoint) -> Response:
    request_id = incoming_of(request).request_id
    try:
        return await answer(request)
    except OAuth2Error as error:
        return refused(error)
    except ClientGone:
        raise
    except GatewayError as error:
        return _foreign(error, request_id)
    except Exception as error:
        logger.error("request %s failed", request_id, exc_info=error)
        return document({"error": "server_error", "error_description": "The server failed to answer."}, 500)


def refused(error: OAuth2Error, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """An error as RFC 6749, 5.2 wants it."""
    return document(_body(error), error.status_code, {**getattr(error, "gatewaykit_headers", {}), **dict(headers)})


def with_headers(error: OAuth2Error, **headers: str) -> OAuth2Error:
    """The error, to be answered with these headers as well."""
    error.gatewaykit_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return error


def description_of(error: OAuth2Error) -> str:
    """The constant text of an error."""
    return str(error.description or "")


def _body(error: OAuth2Error) -> dict[str, str]:
    text = description_of(error)
    return {"error": str(error.error)} | ({"error_description": text} if text else {})


def _foreign(error: GatewayError, request_id: str) -> Response:
    """An error of the gateway's own, in words of the protocol."""
    retry = {} if error.retry_after is None else {"retry-after": str(max(1, round(error.retry_after)))}
    if isinstance(error, RateLimited):
        return document(_body(TooManyRequests()), 429, retry)
    if isinstance(error, BadRequest):
        return document(_body(InvalidRequestError("The request is not valid.")), error.status, dict(error.headers))
    if isinstance(error, PermissionDenied):
        return document(_body(Forbidden()), 403)
    if error.status == 503:
        logger.warning("request %s: %s", request_id, error)
        return document(_body(TemporarilyUnavailable()), 503, retry or {"retry-after": "1"})
    logger.error("request %s: %s", request_id, error)
    return document({"error": "server_error", "error_description": "The server failed to answer."}, 500)


def _preflight(methods: Sequence[str]) -> dict[str, str]:
    return {
        "access-control-allow-methods": ", ".join(methods),
        "access-control-allow-headers": "authorization, content-type, dpop",
        "access-control-max-age": "600",
    }
