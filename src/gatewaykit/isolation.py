"""Keeps a plugin's failures from becoming the gateway's: deadlines, and what an unexpected exception means.

Each hook method is wrapped once, when the gateway is put together. Errors from :mod:`gatewaykit.errors` are a plugin's
decision and pass; anything else is its defect: it is logged with the plugin object's name and then, by the object's
``on_error``, refuses the request (``closed``) or is passed over (``open``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from gatewaykit.errors import GatewayError, InternalError, Unavailable
from gatewaykit.protocols import Named
from gatewaykit.stepping import within

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


def isolate_async(
    owner: Named, method: Callable[P, Coroutine[Any, Any, T | None]], deadline: float
) -> Callable[P, Awaitable[T | None]]:
    """``method`` with a deadline in seconds (the owner's own, if it declares one)."""
    seconds = getattr(owner, "deadline", None) or deadline
    is_open = getattr(owner, "on_error", "closed") == "open"

    async def isolated(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return await within(seconds, method(*args, **kwargs))
        except GatewayError:
            raise
        except TimeoutError as error:
            logger.error("%s waited longer than %g s", owner.name, seconds)
            if is_open:
                return None
            raise Unavailable(detail=f"{owner.name} missed its deadline") from error
        except Exception as error:
            _report(owner, error)
            if is_open:
                return None
            raise Unavailable(detail=f"{owner.name} failed") from error

    return isolated


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


def _report(owner: Named, error: Exception) -> None:
    logger.error("%s failed: %s", owner.name, type(error).__name__, exc_info=error)
