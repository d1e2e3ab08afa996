"""GigaChat's JSON endpoints beside chat: what is asked there is authorized, tried again and understood alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gatewaykit.errors import ProviderBadAnswer
from gatewaykit.http import HttpAnswer

from .control import Control
from .credentials import Credential, authorized
from .errors import UNREADABLE, api_refusal
from .retries import Retries


class Api:
    """The endpoints below ``base_url``."""

    def __init__(self, base_url: str, control: Control, credential: Credential, retries: Retries) -> None:
        self._base_url = base_url
        self._control = control
        self._credential = credential
        self._retries = retries

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        limit: float | None = None,
    ) -> dict[str, Any]:
        """The JSON object that ``path`` answers within ``limit`` seconds.

        Raises :class:`~gatewaykit.errors.GatewayError`.
        """

        async def send(authorization: str | None) -> HttpAnswer:
            sent = {"Accept": "application/json", **authorization_header(authorization), **(headers or {})}
            answer = await self._control.send(method, self._base_url + path, headers=sent, body=body, limit=limit)
            if answer.status != 200:
                raise api_refusal(answer.status, answer.headers, answer.body)
            return answer

        answer = await self._retries.run(lambda: authorized(self._credential, send))
        return json_object(answer.body)


def authorization_header(authorization: str | None) -> dict[str, str]:
    """The header, or none."""
    return {"Authorization": authorization} if authorization else {}


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``. Raises :class:`~gatewaykit.errors.ProviderBadAnswer`."""
    try:
        document = msgspec.json.decode(body)
    except UNREADABLE:
        raise ProviderBadAnswer(detail="not JSON") from None
    if not isinstance(document, dict):
        raise ProviderBadAnswer(detail="JSON, but no object")
    return document
