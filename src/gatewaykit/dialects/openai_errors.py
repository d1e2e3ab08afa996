"""The error body that all OpenAI dialects share.

Source: OpenAI API reference, "Error codes", and the types that the API is seen to answer with.
"""

from __future__ import annotations

import msgspec

from gatewaykit.errors import GatewayError, RateLimited

_TYPES_BY_CODE = {
    "insufficient_quota": "insufficient_quota",
    "upstream_auth_failed": "api_error",
}
_TYPES_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}

_json = msgspec.json.Encoder()


def encode_error(error: GatewayError) -> bytes:
    """``{"error": {"message", "type", "param", "code"}}``, from which the official SDKs make their exceptions."""
    body = {"message": error.message, "type": _type(error), "param": error.param, "code": error.code}
    try:
        return _json.encode({"error": body})
    except UnicodeEncodeError:
        return _json.encode({"error": {**body, "message": error.default_message, "param": None}})


def _type(error: GatewayError) -> str:
    if isinstance(error, RateLimited) and error.unit in {"requests", "tokens"}:
        return error.unit
    usual = "server_error" if error.status >= 500 else "invalid_request_error"
    return _TYPES_BY_CODE.get(error.code) or _TYPES_BY_STATUS.get(error.status, usual)
