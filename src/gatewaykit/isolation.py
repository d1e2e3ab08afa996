"""Keeps a plugin's failures from becoming the gateway's: deadlines, and what an unexpected exception means.

Each hook method is wrapped once, when the gateway is put together. Errors from :mod:`gatewaykit.errors` are a plugin's
decision and pass; anything else is its defect: it is logged with the plugin object's name and then, by the object's
``on_error``, refuses the request (``closed``) or is passed over (``open``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from gatewaykit.errors import GatewayError, InternalError, Unavailable
from gatewaykit.protocols import Limiter, Named, Permit
from gatewaykit.stepping import bounded, within
from gatewaykit.types import Call, Usage

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)
_RETRY_AFTER = 1.0


def isolate_async(
    owner: Named, method: Callable[P, Coroutine[Any, Any, T | None]], deadline: float
) -> Callable[P, Awaitable[T | None]]:
    """``method`` with a deadline in seconds (the owner's own, if it declares one)."""
    seconds = getattr(owner, "deadline", None) or deadline
    is_open = getattr(owner, "on_error", "closed") == "open"

    async def isolated(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            asked = method(*args, **kwargs)
            try:
                pending = asked.send(None)
            except StopIteration as at_once:
                return cast("T | None", at_once.value)
            return await bounded(seconds, asked, pending)
        except GatewayError:
            raise
        except TimeoutError as error:
            logger.error("%s waited longer than %g s", owner.name, seconds)
            if is_open:
                return None
            raise Unavailable(retry_after=_RETRY_AFTER, detail=f"{owner.name} missed its deadline") from error
        except Exception as error:
            _report(owner, error)
            if is_open:
                return None
            raise Unavailable(retry_after=_RETRY_AFTER, detail=f"{owner.name} failed") from error

    return isolated


def isolate_limiter(owner: Limiter, deadline: float) -> Callable[[Call], Awaitable[Permit | None]]:
    """``owner.acquire`` with a deadline in seconds, which holds for leaving what it reserved, too."""
    acquire = isolate_async(owner, owner.acquire, deadline)
    seconds = getattr(owner, "deadline", None) or deadline

    async def isolated(call: Call) -> Permit | None:
        permit = await acquire(call)
        return None if permit is None else _IsolatedPermit(owner, permit, seconds)

    return isolated


class _IsolatedPermit:
    """A permit that cannot harm an answer: where leaving it fails, the log says whose it was."""

    def __init__(self, owner: Limiter, permit: Permit, seconds: float) -> None:
        self._owner = owner
        self._permit = permit
        self._seconds = seconds
        self.instant = getattr(permit, "instant", False)
        self.headers: Sequence[tuple[str, str]] = permit.headers

    async def settle(self, usage: Usage | None) -> None:
        try:
            leaving = self._permit.settle(usage)
            await (leaving if self.instant else within(self._seconds, leaving))
        except Exception as error:  # noqa: BLE001 - the client has its answer, whatever this is
            _report(self._owner, error)

    async def release(self) -> None:
        try:
            await within(self._seconds, self._permit.release())
        except Exception as error:  # noqa: BLE001 - as above
            _report(self._owner, error)


def isolate(owner: Named, method: Callable[P, T], otherwise: Callable[P, T]) -> Callable[P, T]:
    """A synchronous ``method``; ``otherwise`` gives its result when it fails and the owner is ``open``."""
    is_open = getattr(owner, "on_error", "closed") == "open"

    def isolated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except GatewayError:
            raise
        except Exception as error:
            _report(owner, error)
            if is_open:
                return otherwise(*args, **kwargs)
            raise InternalError(detail=f"{owner.name} failed") from error

    return isolated


def harmless(owner: Named, method: Callable[P, None]) -> Callable[P, None]:
    """A synchronous ``method`` whose failure only the log hears of."""

    def isolated(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - that is its purpose
            _report(owner, error)

    return isolated


def _report(owner: Named, error: Exception) -> None:
    logger.error("%s failed: %s", owner.name, type(error).__name__, exc_info=error)
