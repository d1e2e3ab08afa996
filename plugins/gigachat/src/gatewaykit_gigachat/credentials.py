"""The four ways to be let in: authorization key, user and password, ready token, client certificate."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import urlencode

from gatewaykit.attempts.deadline import Deadline
from gatewaykit.errors import ProviderTimeout
from gatewaykit.http import HttpAnswer

from .control import Control
from .errors import Refused, token_refusal
from .retries import Retries
from .token import Token, read_token

T = TypeVar("T")


class Credential(Protocol):
    """Says what stands in the header ``Authorization`` of an API call."""

    @property
    def expires(self) -> float | None:
        """The unix time at which the present token ends; ``None`` if there is none, or nobody knows."""
        ...

    @property
    def failures(self) -> Mapping[str, int]:
        """How often there was no token to be had, by the errors' codes."""
        ...

    async def authorization(self) -> str | None:
        """The header's value; ``None`` for no header at all."""
        ...

    def rejected(self, authorization: str | None, *, again: bool = False) -> bool:
        """The API answered 401 to this header; whether another try can do better. ``again``: this was it: no."""
        ...

    async def aclose(self) -> None:
        """Stop what runs in the background."""
        ...


class FixedCredential:
    """A ready access token, or none where the client certificate says it all. Neither can be renewed."""

    def __init__(self, access_token: str | None) -> None:
        self._header = f"Bearer {access_token}" if access_token else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'ready token' if self._header else 'client certificate'}>"

    @property
    def expires(self) -> float | None:
        """A ready token does not tell."""
        return None

    @property
    def failures(self) -> Mapping[str, int]:
        """Nothing is fetched."""
        return {}

    async def authorization(self) -> str | None:
        """Always the same."""
        return self._header

    def rejected(self, authorization: str | None, *, again: bool = False) -> bool:
        """Nothing else can be tried."""
        return False

    async def aclose(self) -> None:
        """Nothing runs."""


class OAuthEndpoint:
    """Tokens for an authorization key, valid for one scope."""

    def __init__(self, control: Control, retries: Retries, url: str, key: str, scope: str) -> None:
        self._control = control
        self._retries = retries
        self._url = url
        self._authorization = f"Basic {key}"
        self._form = urlencode({"scope": scope}).encode()

    async def __call__(self) -> Token:
        """A new token. Raises :class:`~gatewaykit.errors.ProviderAuthFailed` when key or scope are refused."""
        return await self._retries.run(self._fetch)

    async def _fetch(self) -> Token:
        headers = {
            "Authorization": self._authorization,
            "RqUID": str(uuid.uuid4()),
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return _token(await self._control.send("POST", self._url, headers=headers, body=self._form))


class PasswordEndpoint:
    """Tokens for a user and password, at the API itself."""

    def __init__(self, control: Control, retries: Retries, url: str, user: str, password: str) -> None:
        self._control = control
        self._retries = retries
        self._url = url
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def __call__(self) -> Token:
        """A new token. Raises :class:`~gatewaykit.errors.ProviderAuthFailed` when user or password are refused."""
        return await self._retries.run(self._fetch)

    async def _fetch(self) -> Token:
        headers = {"Authorization": self._authorization, "Accept": "application/json"}
        return _token(await self._control.send("POST", self._url, headers=headers))


async def authorized(
    credential: Credential, send: Callable[[str | None], Awaitable[T]], seconds: float | None = None
) -> T:
    """What ``send`` makes of the current authorization; after a 401 once more with a new one, if there can be one.

    Each time it may take ``seconds``. Raises :class:`~gatewaykit.errors.ProviderTimeout`.
    """
    again = False
    while True:
        authorization = await credential.authorization()
        try:
            if seconds is None:
                return await send(authorization)
            return await _bounded(send(authorization), seconds)
        except Refused as refused:
            if refused.status != 401 or not credential.rejected(authorization, again=again):
                raise
        again = True


async def _bounded(sending: Awaitable[T], seconds: float) -> T:
    deadline = Deadline(seconds)
    try:
        return await sending
    except asyncio.CancelledError:
        if deadline.passed():
            raise ProviderTimeout(detail="gigachat.timeout") from None
        raise
    finally:
        deadline.end()


def _token(answer: HttpAnswer) -> Token:
    if answer.status != 200:
        raise token_refusal(answer.status, answer.headers, answer.body)
    return read_token(answer.body)
