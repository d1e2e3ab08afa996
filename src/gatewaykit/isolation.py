"""Keeps a plugin's failures from becoming the gateway's: deadlines, and what an unexpected exception means.

Each hook method is wrapped once, when the gateway is put together. Errors from :mod:`gatewaykit.errors` are a plugin's
decision and pass; anything else is its defect: it is logged with the plugin object's name and then, by the object's
``on_error``, refuses the request (``closed``) or is passed over (``open``). What each method costs, and how often it
fails, is kept in :class:`Costs`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from gatewaykit.errors import GatewayError, InternalError, Unavailable
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import HOOK, HOOK_CALLS, HOOK_FAILURES, HOOK_TIME, OBJECT, REASON
from gatewaykit.protocols import Limiter, Named, Permit
from gatewaykit.stepping import astray, bounded, within
from gatewaykit.types import Call, Usage

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)
_RETRY_AFTER = 1.0


class Cost:
    """What one method of one object took in this process, in calls and seconds, and how often it failed."""

    __slots__ = ("calls", "errors", "hook", "owner", "seconds", "timeouts")

    def __init__(self, owner: str, hook: str) -> None:
        self.owner = owner
        self.hook = hook
        self.calls = self.errors = self.timeouts = 0
        self.seconds = 0.0


class Costs:
    """The costs of all methods of a gateway."""

    def __init__(self) -> None:
        self._all: list[Cost] = []

    def of(self, owner: Named, method: Callable[..., Any]) -> Cost:
        """A new account for this method of ``owner``."""
        cost = Cost(owner.name, getattr(method, "__name__", type(method).__name__))
        self.add(cost)
        return cost

    def add(self, cost: Cost) -> None:
        """One more account."""
        self._all.append(cost)

    def readings(self) -> Iterator[Reading]:
        """How they stand."""
        for cost in self._all:
            labels = {OBJECT: cost.owner, HOOK: cost.hook}
            yield Reading(HOOK_CALLS, cost.calls, labels)
            yield Reading(HOOK_TIME, cost.seconds, labels)
            for reason, count in (("error", cost.errors), ("timeout", cost.timeouts)):
                if count:
                    yield Reading(HOOK_FAILURES, count, {**labels, REASON: reason})


def isolate_async(
    owner: Named,
    method: Callable[P, Coroutine[Any, Any, T | None]],
    deadline: float,
    costs: Costs,
    wrapped: Callable[[T], T] | None = None,
) -> Callable[P, Awaitable[T | None]]:
    """``method`` with a deadline in seconds (the owner's own, if it declares one); its result, if any, ``wrapped``."""
    cost = costs.of(owner, method)
    seconds = getattr(owner, "deadline", None) or deadline
    is_open = getattr(owner, "on_error", "closed") == "open"

    async def isolated(*args: P.args, **kwargs: P.kwargs) -> T | None:
        began = perf_counter()
        try:
            asked = method(*args, **kwargs)
            try:
                pending = asked.send(None)
            except StopIteration as at_once:
                result: T | None = at_once.value
            else:
                result = await bounded(seconds, asked, pending)
            return result if result is None or wrapped is None else wrapped(result)
        except GatewayError:
            raise
        except TimeoutError as error:
            cost.timeouts += 1
            logger.error("%s waited longer than %g s", owner.name, seconds)
            if is_open:
                return None
            raise Unavailable(retry_after=_RETRY_AFTER, detail=f"{owner.name} missed its deadline") from error
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not astray():
                raise
            cost.errors += 1
            _report(owner, error)
            if is_open:
                return None
            raise Unavailable(retry_after=_RETRY_AFTER, detail=f"{owner.name} failed") from error
        finally:
            cost.calls += 1
            cost.seconds += perf_counter() - began

    return isolated


def isolate_limiter(owner: Limiter, deadline: float, costs: Costs) -> Callable[[Call], Awaitable[Permit | None]]:
    """``owner.acquire`` with a deadline in seconds, which holds for leaving what it reserved, too."""
    leaving = Cost(owner.name, "leave")
    seconds = getattr(owner, "deadline", None) or deadline
    acquire = isolate_async(
        owner, owner.acquire, deadline, costs, lambda permit: _IsolatedPermit(owner, permit, seconds, leaving)
    )
    costs.add(leaving)
    return acquire


class _IsolatedPermit:
    """A permit that cannot harm an answer: where leaving it fails, the log says whose it was."""

    def __init__(self, owner: Limiter, permit: Permit, seconds: float, cost: Cost) -> None:
        self._owner = owner
        self._permit = permit
        self._seconds = seconds
        self._cost = cost
        self.instant = getattr(permit, "instant", False)
        self.headers = permit.headers

    async def settle(self, usage: Usage | None) -> None:
        began = perf_counter()
        try:
            leaving = self._permit.settle(usage)
            await (leaving if self.instant else within(self._seconds, leaving))
        except Exception as error:  # noqa: BLE001 - the client has its answer, whatever this is
            self._cost.errors += 1
            _report(self._owner, error)
        finally:
            self._cost.calls += 1
            self._cost.seconds += perf_counter() - began

    async def release(self) -> None:
        began = perf_counter()
        try:
            await within(self._seconds, self._permit.release())
        except Exception as error:  # noqa: BLE001 - as above
            self._cost.errors += 1
            _report(self._owner, error)
        finally:
            self._cost.calls += 1
            self._cost.seconds += perf_counter() - began


def isolate(
    owner: Named, method: Callable[P, T], otherwise: Callable[P, T], costs: Costs, kinds: Any = object
) -> Callable[P, T]:
    """A synchronous ``method``, whose result is one of ``kinds``; ``otherwise`` gives it when the method fails and the
    owner is ``open``.
    """
    cost = costs.of(owner, method)
    is_open = getattr(owner, "on_error", "closed") == "open"

    def isolated(*args: P.args, **kwargs: P.kwargs) -> T:
        began = perf_counter()
        try:
            result = method(*args, **kwargs)
            return result if isinstance(result, kinds) else must_be(kinds, result)
        except GatewayError:
            raise
        except Exception as error:
            cost.errors += 1
            _report(owner, error)
            if is_open:
                return otherwise(*args, **kwargs)
            raise InternalError(detail=f"{owner.name} failed") from error
        finally:
            cost.calls += 1
            cost.seconds += perf_counter() - began

    return isolated


def harmless(owner: Named, method: Callable[P, None], costs: Costs) -> Callable[P, None]:
    """A synchronous ``method`` whose failure only the log hears of."""
    cost = costs.of(owner, method)

    def isolated(*args: P.args, **kwargs: P.kwargs) -> None:
        began = perf_counter()
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - that is its purpose
            cost.errors += 1
            _report(owner, error)
        finally:
            cost.calls += 1
            cost.seconds += perf_counter() - began

    return isolated


def must_be(kinds: Any, result: T) -> T:
    """``result``, which a plugin gave. Raises :class:`TypeError` if it is none of ``kinds``."""
    if isinstance(result, kinds):
        return result
    raise TypeError(f"a plugin gave {type(result).__name__} where that cannot be")


def _report(owner: Named, error: BaseException) -> None:
    logger.error("%s failed: %s", owner.name, type(error).__name__, exc_info=error)
