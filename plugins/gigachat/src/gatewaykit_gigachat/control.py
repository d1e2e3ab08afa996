"""Plain HTTP beside the model calls: tokens, files, models."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from gatewaykit.http import HttpAnswer, HttpClient, translated_errors

MAX_BODY_BYTES = 8 * 1024 * 1024


class Control:
    """Sends requests and reads whole answers. ``timeout`` is the usual limit of one exchange, in seconds.

    These requests are rare, so each opens a connection of its own: nothing is kept, in no event loop. They go by the
    client of the model calls, for it is there already: a second one would be longer in coming than the first token.
    """

    def __init__(self, ssl_context: ssl.SSLContext | None, headers: Mapping[str, str], timeout: float) -> None:
        self._ssl_context = ssl_context
        self._headers = dict(headers)
        self._timeout = timeout

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", limit: float | None = None
    ) -> HttpAnswer:
        """The answer, whatever its status, within ``limit`` seconds.

        Raises :class:`~gatewaykit.errors.ProviderError` and its kinds.
        """
        limit = limit or self._timeout
        parts = urlsplit(url)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts._replace(scheme="", netloc="", fragment="").geturl()
        client = HttpClient(origin, headers=self._headers, ssl_context=self._ssl_context, connect_timeout=limit)
        with translated_errors():
            async with (
                asyncio.timeout(limit),
                client,
                client.stream(method, path or "/", body=body, headers=headers) as answer,
            ):
                return HttpAnswer(answer.status, answer.headers, await answer.read(MAX_BODY_BYTES))
