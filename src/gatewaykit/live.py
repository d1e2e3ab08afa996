"""What the gateway is doing now: requests to its dialects that are being answered, and the streams among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gatewaykit.certificates import ends
from gatewaykit.exchange import Exchange
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import CERTIFICATE_EXPIRES, HTTP_ACTIVE, METHOD, SCHEME, STREAMS

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""The methods that have a name in metrics; others are ``_OTHER`` (semantic conventions, HTTP)."""


class Live:
    """``exchanges`` are those in progress. Nothing is counted up and down: whoever is not there any more has left.

    ``certificate`` is the file of the server's certificate, if it has one; the one that is there now is in use.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.exchanges: set[Exchange] = set()
        self._scheme = "https" if certificate else "http"
        self._ends = ends(certificate) if certificate else None

    def readings(self) -> Iterator[Reading]:
        """How many there are."""
        exchanges = tuple(self.exchanges)
        methods = Counter(known_method(exchange.incoming.method) for exchange in exchanges)
        for method in {"GET", "POST", *methods}:
            yield Reading(HTTP_ACTIVE, methods[method], {METHOD: method, SCHEME: self._scheme})
        yield Reading(STREAMS, sum(_is_stream(exchange) for exchange in exchanges))
        if self._ends is not None:
            yield Reading(CERTIFICATE_EXPIRES, self._ends)


def known_method(method: str) -> str:
    """The method, or what stands for all that nobody has heard of."""
    return method if method in METHODS else "_OTHER"


def _is_stream(exchange: Exchange) -> bool:
    call = exchange.call
    return call is not None and call.request.stream and exchange.meter.first_event is not None
