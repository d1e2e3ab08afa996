"""Reading what an HTTP upstream answers: its status in the gateway's words, how long to wait, and its JSON."""

from __future__ import annotations

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
    """Seconds by ``Retry-After``, a number or a date (RFC 9110, 10.2.3), at most a day; ``None`` without one."""
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return min(float(given), _LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(given)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return min(max(0.0, (date - datetime.now(UTC)).total_seconds()), _LONGEST_WAIT)
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
