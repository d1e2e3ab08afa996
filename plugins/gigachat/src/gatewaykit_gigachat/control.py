"""Plain HTTP beside the model calls: tokens, files, models."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.http import HttpAnswer, control_client, translated_errors

MAX_BODY_BYTES = 8 * 1024 * 1024


class Control:
    """Sends requests and reads whole answers. ``timeout`` is the usual limit of one exchange, in seconds.

    These requests are rare, so each opens a connection of its own: nothing is kept, in no event loop.
    """

    def __init__(self, ssl_context: ssl.SSLContext, headers: Mapping[str, str], timeout: float) -> None:
        self._ssl_context = ssl_context
        self._headers = dict(headers)
        self._timeout = timeout

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], limit: float | None = None, **body: Any
    ) -> HttpAnswer:
        """The answer, whatever its status, within ``limit`` seconds.

        ``body`` is given in httpx's own words: ``content``, ``data``, ``files``.
        Raises :class:`~gatewaykit.errors.ProviderError` and its kinds.
        """
        limit = limit or self._timeout
        client = control_client(headers=self._headers, ssl_context=self._ssl_context, timeout=limit)
        with translated_errors():
            async with (
                asyncio.timeout(limit),
                client,
                client.stream(method, url, headers=headers, **body) as response,
            ):
                return HttpAnswer(response.status_code, _lowered(response.headers), await _read(response))


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ProviderBadAnswer(detail=f"the answer has more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _lowered(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
