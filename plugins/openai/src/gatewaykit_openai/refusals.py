"""What an upstream's errors mean in the gateway's words.

Upstreams agree on little: OpenAI's ``{"error": {"message", "type", "code", "param"}}``, the same in a list, the same
without a wrapper, ``{"detail": …}``, plain text, a proxy's HTML page. Of all this only a message about the client's own
request may reach the client, and only if nothing in it could be a credential or an address of the gateway's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gatewaykit.answers import retry_after
from gatewaykit.errors import (
    BadRequest,
    BodyTooLarge,
    ContentBlocked,
    ContextTooLong,
    GatewayError,
    ModelNotFound,
    ProviderAuthFailed,
    ProviderBadAnswer,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
)

MAX_MESSAGE = 500
MAX_RETRY_AFTER = 86_400.0

_UNPAID = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "insufficient_balance"})
_BUSY = frozenset({"rate_limit_exceeded", "rate_limit_error", "overloaded_error", "requests", "tokens"})
_KEY = frozenset({"invalid_api_key", "authentication_error", "invalid_authentication_error"})
_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_BLOCKED = frozenset({"content_filter", "content_policy_violation", "responsibleaipolicyviolation"})
_UNKNOWN_MODEL = frozenset({"model_not_found"})
_REQUEST = frozenset({"invalid_request_error", "badrequesterror", "invalid_argument"})
_SPEAKS_OF_KEY = re.compile(r"api key (?:not valid|provided|is (?:invalid|missing)|expired)", re.IGNORECASE)
_SPEAKS_OF_LENGTH = re.compile(r"maximum context length|context (?:length|window|size) exceeded", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
_FRAGMENT = 8

_BY_STATUS: Mapping[int, type[GatewayError]] = {
    401: ProviderAuthFailed,
    402: ProviderUnpaid,
    403: ProviderDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    413: BodyTooLarge,
    429: ProviderBusy,
}


class Complaint(msgspec.Struct, frozen=True):
    """What an error document says; ``words`` are its ``type`` and ``code`` in lower case."""

    message: str = ""
    param: str | None = None
    words: frozenset[str] = frozenset()
    number: int = 0


class Refusals:
    """Makes errors from one upstream's answers, and keeps every part of ``secrets`` and the ``address`` out of them."""

    def __init__(self, secrets: Iterable[str], address: str) -> None:
        parts = {fragment for secret in secrets for fragment in _fragments(secret)}
        self._confidential = frozenset(parts | {_host(address.lower())})

    def from_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """The error for an answer whose status is not 200."""
        return self._error(status, _complaint(_document(body)), retry_after(headers))

    def from_document(self, document: Any) -> GatewayError:
        """The error for an error document that came where an answer was promised."""
        complaint = _complaint({"error": document})
        return self._error(_status(complaint), complaint, None)

    def _error(self, status: int, complaint: Complaint, wait: float | None) -> GatewayError:
        kind = _kind(status, complaint)
        detail = " ".join([f"HTTP {status}", *sorted(word for word in complaint.words if self._harmless(word))])
        if issubclass(kind, ProviderError):
            return kind(detail=detail, retry_after=wait)
        if issubclass(kind, ModelNotFound):
            return kind(detail=detail, param="model")
        message = complaint.message[:MAX_MESSAGE] if self._harmless(complaint.message) else None
        param = complaint.param if complaint.param and self._harmless(complaint.param) else None
        return kind(message, param=param, detail=detail)

    def _harmless(self, text: str) -> bool:
        lowered = text.lower()
        return not any(part in lowered for part in self._confidential)


def _fragments(text: str) -> Iterable[str]:
    """Every run of eight characters: upstreams like to show a key's beginning."""
    lowered = text.lower()
    last = max(0, len(lowered) - _FRAGMENT)
    return (lowered[start : start + _FRAGMENT] for start in range(last + 1)) if len(lowered) > 3 else ()


def _host(address: str) -> str:
    """The host of ``address``; all of it where the host alone is a word that messages use for other things."""
    host = urlsplit(f"//{address}").hostname or ""
    return host if "." in host or ":" in host else address


def _kind(status: int, complaint: Complaint) -> type[GatewayError]:
    """The most telling of words, message and status; what concerns the gateway's credential comes first."""
    words, message = complaint.words, complaint.message
    if status in {401, 403}:
        return _BY_STATUS[status]
    if words & _KEY or _SPEAKS_OF_KEY.search(message):
        return ProviderAuthFailed
    if words & _UNPAID:
        return ProviderUnpaid
    if status != 429 and (words & _LONG or _SPEAKS_OF_LENGTH.search(message)):
        return ContextTooLong
    if words & _BLOCKED:
        return ContentBlocked
    return _by_status(status)


def _by_status(status: int) -> type[GatewayError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ProviderUnavailable
    if status in {400, 409, 415, 422}:
        return BadRequest
    return ProviderBadAnswer if status < 400 else ProviderError


def _status(complaint: Complaint) -> int:
    """The status that an error in the middle of an answer would have had."""
    if 400 <= complaint.number < 600:
        return complaint.number
    for words, status in ((_BUSY, 429), (_UNKNOWN_MODEL, 404), (_REQUEST, 400)):
        if complaint.words & words:
            return status
    return 500


def _document(body: bytes) -> Any:
    """The error document in ``body``; plain text counts as its message, a page of HTML as none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[: 4 * MAX_MESSAGE].decode(errors="replace").strip()
        return None if text.startswith("<") or "�" in text else {"message": text}


def _complaint(document: Any) -> Complaint:
    if isinstance(document, list) and document:
        document = document[0]
    if isinstance(document, dict) and document.get("error") is not None:
        document = document["error"]
    if isinstance(document, str):
        document = {"message": document}
    if not isinstance(document, dict):
        return Complaint()
    message = document.get("message") or document.get("detail")
    param, number = document.get("param"), document.get("code")
    return Complaint(
        message=_one_line(message) if isinstance(message, str) else "",
        param=_one_line(param)[:200] if isinstance(param, str) else None,
        words=frozenset(_words(document)),
        number=number if type(number) is int else 0,
    )


def _words(document: Mapping[str, Any]) -> Iterable[str]:
    inner = document.get("innererror")
    for value in (document.get("type"), document.get("code"), inner.get("code") if isinstance(inner, dict) else None):
        if isinstance(value, str) and _WORD.match(value):
            yield value.lower()


def _one_line(text: str) -> str:
    """``text`` with every run of blanks and unprintable characters as one space."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * MAX_MESSAGE])
    return " ".join(kept.split())
