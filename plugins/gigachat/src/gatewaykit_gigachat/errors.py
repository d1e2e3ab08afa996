"""What GigaChat's error answers mean in the gateway's words.

API errors are ``{"status", "message"}``, OAuth errors ``{"code", "message"}``, front-end errors HTML or nothing
(GigaChat's REST API, "Errors"). Nothing of them is believed: texts are shortened; addresses and opaque words cut out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gatewaykit.answers import retry_after
from gatewaykit.errors import (
    BadRequest,
    ContextTooLong,
    GatewayError,
    ModelNotFound,
    NotFound,
    PermissionDenied,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder of JSON raises for bytes that are none."""

MAX_ERROR_BYTES = 256 * 1024
_LONGEST_MESSAGE = 300
_UNFIT = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://\S+|\b(?:basic|bearer)\s+\S+|[A-Za-z0-9+/_=.~-]{48,}", re.IGNORECASE)

_KINDS: dict[int, type[GatewayError]] = {
    401: ProviderAuthFailed,
    402: ProviderUnpaid,
    408: ProviderTimeout,
    413: ContextTooLong,
    429: ProviderBusy,
}

_PARAMS = (
    ("response_format", "response_format"),
    ("json format type", "response_format"),
    ("function call", "messages"),
    ("function result", "messages"),
    ("system message", "messages"),
    ("function", "tools"),
    ("tool", "tools"),
    ("properties", "tools"),
    ("repetition_penalty", "frequency_penalty"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("max_tokens", "max_tokens"),
    ("reasoning", "reasoning_effort"),
    ("attachment", "messages"),
    ("message", "messages"),
    ("model", "model"),
)
"""What a message speaks of, and the client's field for it; the first that fits counts."""

_OAUTH_CAUSES = {
    1: "the scope is unknown: check gigachat.scope",
    4: "the authorization key is not valid base64: check gigachat.credentials",
    5: "no scope was sent: check gigachat.scope",
    6: "the authorization key is wrong or revoked: check gigachat.credentials",
    7: "the authorization key belongs to another scope: check gigachat.scope",
}


class Refused(Exception):
    """An answer with the error status ``status``; ``error`` is what it means. It stays within this package."""

    def __init__(self, status: int, error: GatewayError) -> None:
        self.status = status
        self.error = error
        super().__init__(f"HTTP {status}: {error}")


def api_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """What an API answer with an error status means; header names are lower case."""
    return Refused(status, _api_error(status, retry_after(headers), _document(body), _is_page(headers, body)))


def token_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """What an answer of a token endpoint with an error status means: a 4xx is a fault of the configuration."""
    if status in (408, 429) or not 400 <= status < 500:
        return api_refusal(status, headers, body)
    document = _document(body)
    code = document.get("code")
    cause = _OAUTH_CAUSES.get(code) if isinstance(code, int) else None
    said = cause or short(document.get("message")) or "no reason given"
    return Refused(status, ProviderAuthFailed(detail=f"the token endpoint answered HTTP {status}: {said}"))


def short(message: object) -> str:
    """A provider's text, fit to be shown: one line, at most 300 characters, no addresses, keys or tokens."""
    if not isinstance(message, str):
        return ""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in message[:2048]).split())
    line = _UNFIT.sub("…", line)
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


def _api_error(status: int, wait: float | None, document: dict[str, Any], page: bool) -> GatewayError:
    message = short(document.get("message"))
    detail = f"HTTP {status}"
    if status in (400, 422):
        return _bad_request(message, detail)
    if status == 403:
        return _denied(message, detail)
    if status == 404:
        return _missing(message, detail, page)
    if status < 400:
        return ProviderBadAnswer(detail=f"{detail}: is gigachat.base_url right?")
    kind = ProviderUnavailable if status >= 500 else _KINDS.get(status, ProviderError)
    return kind(detail=detail, retry_after=wait)


def _bad_request(message: str, detail: str) -> BadRequest:
    if not message:
        return BadRequest("GigaChat refused the request and gave no reason.", detail=detail)
    lowered = message.lower()
    param = next((field for word, field in _PARAMS if word in lowered), None)
    return BadRequest(f"GigaChat refused the request: {message}", param=param, detail=detail)


def _denied(message: str, detail: str) -> GatewayError:
    if "access to file" in message.lower():
        return PermissionDenied("There is no access to a file that the request names.", detail=detail)
    if message.lower() == "unauthorized":
        return ProviderAuthFailed(detail=f"{detail}: {message}")
    return ProviderDenied(detail=detail)


def _missing(message: str, detail: str, page: bool) -> GatewayError:
    lowered = message.lower()
    if page:
        return ProviderError(detail=f"{detail} with a page in HTML: is gigachat.base_url right?")
    if "tool" in lowered:
        return BadRequest(f"GigaChat refused the request: {message}", param="tools", detail=detail)
    if "file" in lowered:
        return NotFound("There is no such file.", detail=detail)
    return ModelNotFound(detail=detail, param="model")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    return document if isinstance(document, dict) else {}


def _is_page(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<"
