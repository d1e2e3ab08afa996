"""An access token that is always there: fetched once for all who wait, renewed early, and renewed when refused."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gatewaykit.errors import GatewayError, ProviderAuthFailed, ProviderBadAnswer, ProviderUnavailable

_SECONDS_BELOW = 1e11
"""A moment below this is unix time in seconds, otherwise in milliseconds."""

_MARGIN = 2.0
"""A token with fewer seconds left is not used while a new one is on its way."""

_PAUSE = 2.0
"""Seconds after a fetch in which what it gave stands: a token is not renewed, a refused credential not tried again."""

_MOST_IN_VAIN = 5
"""Calls that a new token did not help before no other is fetched for a while: the service gives ten in a second."""

_USUAL = (ProviderAuthFailed.code, ProviderUnavailable.code)
"""Failures that are told as 0 before the first: a rise from nothing at all is invisible to those who watch."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and the unix time, in seconds, at which it ends."""

    value: str = field(repr=False)
    expires: float
    authorization: str = field(init=False, repr=False)
    """The value of the header ``Authorization``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "authorization", f"Bearer {self.value}")


def read_token(body: bytes) -> Token:
    """A token endpoint's answer: ``{"access_token", "expires_at"}`` or ``{"tok", "exp"}``.

    The end is in seconds or milliseconds, told by its size. Raises :class:`~gatewaykit.errors.ProviderBadAnswer`.
    """
    try:
        document: Any = msgspec.json.decode(body)
        value = document.get("access_token") or document["tok"]
        end = float(document["expires_at"] if "expires_at" in document else document["exp"])
    except (msgspec.DecodeError, RecursionError, AttributeError, LookupError, TypeError, ValueError, OverflowError):
        raise ProviderBadAnswer(detail="the token endpoint's answer has no token or no end of it") from None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ProviderBadAnswer(detail="the token endpoint's token is not one word of ASCII")
    if not math.isfinite(end):
        raise ProviderBadAnswer(detail="the token endpoint's end of validity is not a number")
    return Token(value, end if end < _SECONDS_BELOW else end / 1000)


class TokenKeeper:
    """Keeps one token, for any number of event loops.

    ``fetch`` gets a new one; ``buffer`` is how many seconds before its end a token is renewed; ``clock`` is unix time.
    Within a loop one fetch runs at a time, in a task of its own: whoever waits may leave without harm to the others. A
    token in its last ``buffer`` seconds is still used while a new one is fetched. A failure is told to all who wait
    and then forgotten, but a refused credential is believed for two seconds before it is tried again. ``failures``
    counts them by their codes.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[Token]], buffer: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._fetch = fetch
        self._buffer = buffer
        self._clock = clock
        self._token: Token | None = None
        self._failure: GatewayError | None = None
        self.failures = Counter(dict.fromkeys(_USUAL, 0))
        self._pause_ends = -math.inf
        self._in_vain = 0
        self._running: dict[asyncio.AbstractEventLoop, asyncio.Task[Token | GatewayError]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'with' if self._token else 'without'} a token>"

    @property
    def expires(self) -> float | None:
        """The unix time at which the present token ends; ``None`` without one."""
        return None if self._token is None else self._token.expires

    async def authorization(self) -> str:
        """The header of a call made now. Raises what the fetch raised."""
        token, now = self._token, self._clock()
        if token is not None and (now < token.expires - self._buffer or self._was_tried(token, now)):
            return token.authorization
        if isinstance(self._failure, ProviderAuthFailed) and self._pauses(now):
            raise _again(self._failure)
        task = self._fetching()
        if token is not None and now < token.expires - _MARGIN:
            return token.authorization
        await asyncio.wait([task])
        if task.cancelled():
            raise ProviderUnavailable(detail="the gateway stopped while it fetched a token")
        outcome = task.result()
        if isinstance(outcome, Token):
            return outcome.authorization
        raise _again(outcome)

    def rejected(self, authorization: str | None, *, again: bool = False) -> bool:
        """The server refused this header: forget the token, unless another took its place. Whether a retry is worth it.

        ``again``: it had taken the place of a refused one, in vain. After several of those the last one stands for two
        seconds, for tokens are not what is wrong.
        """
        if again:
            self._in_vain += 1
            return False
        if self._token is not None and self._token.authorization == authorization:
            if self._in_vain >= _MOST_IN_VAIN:
                if self._pauses(self._clock()):
                    return False
                self._in_vain = 0
            self._token = None
        return True

    async def aclose(self) -> None:
        """Stop the fetch of the running event loop."""
        if task := self._running.get(asyncio.get_running_loop()):
            task.cancel()
            await asyncio.wait([task])

    def _was_tried(self, token: Token, now: float) -> bool:
        """Whether it was fetched or tried just now: a server whose tokens seem old is not asked in a storm."""
        return self._pauses(now) and (self._failure is None or now < token.expires)

    def _pauses(self, now: float) -> bool:
        """Whether the last fetch was just now; one that seems to lie ahead was before the clock was set back."""
        return now < self._pause_ends <= now + _PAUSE

    def _fetching(self) -> asyncio.Task[Token | GatewayError]:
        loop = asyncio.get_running_loop()
        task = self._running.get(loop)
        if task is None:
            for stale in [known for known in self._running if known.is_closed()]:
                del self._running[stale]
            # An empty context: what the first caller logs under must not stick to a task that serves everybody.
            task = self._running[loop] = asyncio.create_task(self._refresh(), context=Context())
            task.add_done_callback(lambda _: self._running.pop(loop, None))
        return task

    async def _refresh(self) -> Token | GatewayError:
        try:
            token = await self._fetch()
        except GatewayError as error:
            self.failures[error.code] += 1
            self._failure, self._pause_ends = error, self._clock() + _PAUSE
            return error
        self._token, self._failure, self._pause_ends = token, None, self._clock() + _PAUSE
        return token


def _again(error: GatewayError) -> GatewayError:
    """A copy: one exception raised at several places at once would collect all their tracebacks."""
    copy = type(error)(error.message, retry_after=error.retry_after, detail=error.detail)
    copy.__cause__ = error
    return copy
