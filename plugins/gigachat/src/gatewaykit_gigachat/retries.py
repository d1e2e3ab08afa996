"""Trying again: which failures may pass, and how long to wait in between."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import stamina

from gatewaykit.errors import GatewayError, ProviderUnavailable

from .errors import Refused
from .tls import explained

T = TypeVar("T")


class Retries:
    """Runs an operation again while what went wrong may pass.

    Up to ``most`` further tries. The wait before try *n* is random between 0 and ``factor * 2**n`` seconds, at most
    ``longest``; a ``Retry-After`` of the server wins, and one beyond ``longest`` ends the trying: the client is told to
    come back. Answers are tried again for the statuses in ``statuses`` only, broken connections always.
    """

    def __init__(self, most: int, factor: float, longest: float, statuses: Collection[int]) -> None:
        self._most = most
        self._factor = factor
        self._longest = longest
        self._statuses = frozenset(statuses)

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of ``operation``. Raises :class:`~gatewaykit.errors.GatewayError` of its last try."""
        try:
            return await self._first_or_again(operation)
        except Refused as refused:
            raise refused.error from None

    async def _first_or_again(self, operation: Callable[[], Awaitable[T]]) -> T:
        """One bare try, because stamina costs 100 µs; its failure then counts as the first of stamina's attempts."""
        try:
            return await _explaining(operation)
        except (GatewayError, Refused) as error:
            if not self._most or self._wait(error, 0) is False:
                raise
            failure: Exception | None = error
        tries = 0

        def wait(error: Exception) -> bool | float:
            nonlocal tries
            tries += 1
            return self._wait(error, tries - 1)

        async for attempt in stamina.retry_context(on=wait, attempts=self._most + 1, timeout=None):
            with attempt:
                if failure is not None:
                    known, failure = failure, None
                    raise known
                return await _explaining(operation)
        raise AssertionError("stamina returns or raises")

    def _wait(self, error: Exception, tries: int) -> bool | float:
        """Seconds before the next try; False when there is none."""
        if isinstance(error, Refused):
            if error.status not in self._statuses:
                return False
            asked = error.error.retry_after
        elif isinstance(error, GatewayError) and error.retryable:
            asked = error.retry_after
        else:
            return False
        if asked is None:
            return random.uniform(0.0, min(self._longest, self._factor * 2**tries))
        return asked if asked <= self._longest else False


async def _explaining(operation: Callable[[], Awaitable[T]]) -> T:
    try:
        return await operation()
    except ProviderUnavailable as error:
        if (told := explained(error)) is not error:
            raise told from error
        raise
