"""What :mod:`gatewaykit_gigachat.safe_fetch` obeys; apart from it, for settings need no HTTP client."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from msgspec import Struct

from gatewaykit.addresses import Address, Resolver, is_public, system_resolver


class FetchOptions(Struct, frozen=True):
    """What may be fetched: ``timeout`` in seconds for all of it, redirects included; ``allow`` judges each address."""

    timeout: float = 20.0
    max_redirects: int = 3
    ports: frozenset[int] = frozenset({80, 443})
    allow: Callable[[Address], bool] = is_public
    resolve: Resolver = system_resolver
    ssl_context: ssl.SSLContext | None = None
