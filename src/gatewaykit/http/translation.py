"""What sockets, TLS and httpx raise, in the gateway's words."""

from __future__ import annotations

import ssl
import sys
from types import TracebackType
from typing import Any

from gatewaykit.errors import ProviderBadAnswer, ProviderError, ProviderTimeout, ProviderUnavailable


class translated_errors:  # noqa: N801 - used like a function
    """Turns what sockets and httpx raise inside it into :class:`~gatewaykit.errors.ProviderError` and its kinds.

    The most specific kind wins; the library's text goes into ``detail`` by class name only, for it may name addresses.
    Misuse of a library (``httpx.StreamError``) stays what it is: a defect.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and (translated := _translation(error)) is not None:
            raise translated from error


def _translation(error: BaseException) -> ProviderError | None:
    name = type(error).__name__
    if (httpx := sys.modules.get("httpx")) is not None and isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
        return _translation_of_httpx(error, httpx, name)
    match error:
        case TimeoutError():
            return ProviderTimeout(detail=name)
        case OSError():
            return ProviderUnavailable(detail=tls_failure(error) or name)
        case ValueError():
            return ProviderBadAnswer(detail=name)
    return None


def _translation_of_httpx(error: BaseException, httpx: Any, name: str) -> ProviderError:
    """The library is not imported for this: it takes long, and what nobody imported raises nothing."""
    match error:
        case httpx.TimeoutException():
            return ProviderTimeout(detail=name)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return ProviderError(detail=name)
        case httpx.TransportError():
            return ProviderUnavailable(detail=tls_failure(error) or name)
    return ProviderBadAnswer(detail=name)


def tls_failure(error: BaseException) -> str | None:
    """What to log when the encryption is what failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "TLS: the server's certificate was not accepted"
        if isinstance(cause, ssl.SSLError):
            return "TLS: no secure connection"
        cause = cause.__cause__ or cause.__context__
    return None
