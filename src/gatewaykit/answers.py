"""Reading what an HTTP upstream answers: its status in the gateway's words, how long to wait, and its JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import msgspec

from gatewaykit.errors import (
    BadRequest,
    BodyTooLarge,
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

T = TypeVar("T")
_LONGEST_WAIT = 86_400.0
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_KINDS: Mapping[int, type[GatewayError]] = {
    400: BadRequest,
    401: ProviderAuthFailed,
    402: ProviderUnpaid,
    403: ProviderDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    413: BodyTooLarge,
    422: BadRequest,
    429: ProviderBusy,
}


def refusal(status: int, headers: Mapping[str, str]) -> GatewayError:
    """What an answer with this status means (RFC 9110, 15); header names are lower case.

    A status below 400 is an answer of a kind that was not asked for. The body is left out on purpose: what it says may
    hold addresses and credentials.
    """
    kind = _KINDS.get(status, ProviderError)
    if status < 400:
        kind = ProviderBadAnswer
    elif status >= 500:
        kind = ProviderUnavailable
    return kind(detail=f"HTTP {status}", retry_after=retry_after(headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at most a day: ``retry-after-ms``, or ``Retry-After`` as a number or a date (RFC 9110, 10.2.3).

    ``None`` if there is none that can be used. Fractions are no part of the RFC, and some servers send them.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    seconds = _number(headers.get("retry-after")) if milliseconds is None else milliseconds / 1000
    if seconds is None:
        seconds = _until(headers.get("retry-after", ""))
    return None if seconds is None else min(seconds, _LONGEST_WAIT)


def _number(text: str | None) -> float | None:
    found = _NUMBER.fullmatch(text.strip()) if text is not None else None
    return float(found[0]) if found else None


def _until(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def read_json(data: bytes, kind: type[T]) -> T:
    """``data`` as an object of this type, usually a :class:`msgspec.Struct`; unknown fields are passed over.

    Raises :class:`~gatewaykit.errors.ProviderBadAnswer`, with nothing of ``data`` in it.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderBadAnswer(detail=f"the answer cannot be read: {type(error).__name__}") from None


__all__ = ["read_json", "refusal", "retry_after"]
