"""Trying again: which failures may pass, and how long to wait in between."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias, TypeVar

from gatewaykit.attempts.retries import stamina
from gatewaykit.errors import GatewayError, ProviderUnavailable

from .errors import Refused
from .tls import explained

T = TypeVar("T")
MayRetry: TypeAlias = Callable[[GatewayError], bool]


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

    async def run(self, operation: Callable[[], Awaitable[T]], may_retry: MayRetry = lambda _: True) -> T:
        """The result of ``operation``. Raises :class:`~gatewaykit.errors.GatewayError` of its last try.

        ``may_retry`` is asked before each further try, with the error that is the reason for it. The first try is bare,
        because stamina costs 100 µs; its failure then counts as the first of stamina's attempts.
        """
        try:
            return await operation()
        except (GatewayError, Refused) as error:
            failure = error
        try:
            return await self._again(operation, failure, may_retry)
        except Refused as refused:
            raise refused.error from None

    async def _again(
        self, operation: Callable[[], Awaitable[T]], first: GatewayError | Refused, may_retry: MayRetry
    ) -> T:
        known: GatewayError | Refused | None = _explained(first)
        tries = 0

        def wait(error: Exception) -> bool | float:
            nonlocal tries
            tries += 1
            seconds = self._wait(error, tries - 1)
            if seconds is False or tries > self._most:
                return False
            return may_retry(_public(error)) and seconds

        async for attempt in (await stamina()).retry_context(on=wait, attempts=self._most + 1, timeout=None):
            with attempt:
                if known is not None:
                    failure, known = known, None
                    raise failure
                try:
                    return await operation()
                except ProviderUnavailable as error:
                    raise _explained(error) from error.__cause__
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


def _public(error: Exception) -> GatewayError:
    """``error`` in the gateway's words."""
    if isinstance(error, Refused):
        return error.error
    return error if isinstance(error, GatewayError) else GatewayError()


def _explained(error: GatewayError | Refused) -> GatewayError | Refused:
    return explained(error) if isinstance(error, ProviderUnavailable) else error
