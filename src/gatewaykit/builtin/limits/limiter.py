"""The limiter: one decision over every limit of a call, before anything is spent; settled to what was really used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gatewaykit.builtin.limits.headers import Header
from gatewaykit.builtin.limits.notes import Notes
from gatewaykit.builtin.limits.plans import Estimator, Plan, Plans
from gatewaykit.builtin.limits.refusals import refusal
from gatewaykit.errors import Unavailable
from gatewaykit.limiting import Backend, Charge, Decision, new_hold
from gatewaykit.limits import Forecast, Limit, Standing, period, slicing
from gatewaykit.metrics import Reading
from gatewaykit.protocols import Limiter, Permit
from gatewaykit.types import Call, Principal, Usage

Spent = Callable[[Limit, float], Awaitable[int]]
"""What was spent under a budget since its period began, which was at that unix time."""

_RENEWALS_PER_LEASE = 3
_LOOK_AT_BUDGETS = 5.0
_ATTEMPTS = 3
logger = logging.getLogger(__name__)


class Limits(Limiter):
    """Decides by the limits of ``plans`` with what ``backend`` has counted.

    ``spent`` tells what the books say was used of a budget before the backend began to count its period, which is that
    of the backend's clock. Once ``budget_warning`` of one is used, as a share of it, the log says so. Without limits a
    call passes at the price of a dictionary look-up.
    """

    name = "limits"

    def __init__(
        self,
        plans: Plans,
        estimator: Estimator,
        backend: Backend,
        spent: Spent,
        currency: str = "",
        budget_warning: float = 1.0,
    ) -> None:
        self._plans = plans
        self._estimator = estimator
        self._backend = backend
        self._spent = spent
        self._currency = currency
        self.instant = getattr(backend, "instant", False)
        self._live: dict[str, tuple[Limit, ...]] = {}
        self._notes = Notes(budget_warning, currency)

    async def acquire(self, call: Call) -> Permit | None:
        """Reserve what the call may use at most. Raises :class:`~gatewaykit.errors.RateLimited` and its kin."""
        plan = self._plans.plan(call.principal, call.request)
        if not plan.limits:
            return None
        charges = self._estimator.charges(call, plan)
        hold = new_hold()
        decision = await self._backend.reserve(hold, charges)
        if decision.unseeded:
            hold, decision = await self._begun(charges, decision)
        headers = plan.teller.tell(decision.standings)
        if plan.budgets:
            self._notes.budgets(decision.standings, plan.budgets)
        if decision.refused:
            self._notes.refused(decision, charges)
            raise refusal(decision, charges, headers, self._currency)
        if plan.held:
            self._live[hold] = plan.held
        return _Reserved(self, call, plan, hold, headers)

    async def standings(self, principal: Principal) -> Sequence[Standing]:
        """How the limits of the principal's key and account stand."""
        return await self._stand(self._plans.own(principal))

    async def foretell(self, call: Call) -> Sequence[Forecast]:
        """Every limit that the call would be under. Raises :class:`~gatewaykit.errors.PriceUnknown`."""
        plan = self._plans.plan(call.principal, call.request)
        charges = self._estimator.charges(call, plan)
        standings = await self._stand(plan.limits)
        return [Forecast(standing, charge.amount) for standing, charge in zip(standings, charges, strict=True)]

    def readings(self) -> Iterator[Reading]:
        """Whom it refused, how full budgets are, and how the store of the limits is."""
        yield from self._notes.readings()
        yield from getattr(self._backend, "readings", tuple)()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keeps the leases of long calls alive, and looks after budgets; at the end what is still to be settled is
        settled.
        """
        tasks = [
            asyncio.create_task(self._renew(), name="gatewaykit-leases"),
            asyncio.create_task(self._warn(), name="gatewaykit-budgets"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._backend.aclose()

    async def leave(self, call: Call, plan: Plan, hold: str, usage: Usage | None) -> None:
        """Settle, once: after that the hold is nobody's."""
        if self._live.pop(hold, None) is not None:
            await self._backend.settle(hold, self._estimator.settled(call, plan, usage))

    async def _stand(self, limits: Sequence[Limit]) -> Sequence[Standing]:
        """How limits stand. A budget of which the backend knows nothing yet stands as the books say."""
        return [await self._seeded(standing) for standing in await self._backend.standings(limits)]

    async def _seeded(self, standing: Standing) -> Standing:
        limit = standing.limit
        if standing.used or not isinstance(limit.span, str):
            return standing
        now = time.time()
        begins, ends = period(limit.span, now)
        used = await self._spent(limit, begins)
        return Standing(limit, used, ends - now) if used else standing

    async def _begun(self, charges: Sequence[Charge], decision: Decision) -> tuple[str, Decision]:
        """A new hold and what was decided on it, after the budgets that the backend does not know yet have begun with
        what the books say.
        """
        for _ in range(_ATTEMPTS):
            for position in decision.unseeded:
                limit = charges[position].limit
                begins = slicing(limit.span, decision.now).current
                await self._backend.seed(limit, await self._spent(limit, begins), begins)
            hold = new_hold()
            decision = await self._backend.reserve(hold, charges)
            if not decision.unseeded:
                return hold, decision
        raise Unavailable(retry_after=1.0, detail="limits: a period could not be begun")

    async def _warn(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_BUDGETS)
            if self._notes.has_budgets:
                await asyncio.to_thread(self._notes.warn)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._backend.lease / _RENEWALS_PER_LEASE)
            if not self._live:
                continue
            try:
                await self._backend.renew(dict(self._live))
            except Exception as error:  # noqa: BLE001 - whatever it was, calls count on the next time
                logger.warning(
                    "leases of %d calls could not be renewed: %s: %s", len(self._live), type(error).__name__, error
                )


class _Reserved(Permit):
    """What one call has reserved. ``headers`` tell how the limits stood when it was let in."""

    headers: Sequence[Header] = ()

    def __init__(self, limits: Limits, call: Call, plan: Plan, hold: str, headers: Sequence[Header]) -> None:
        self._limits = limits
        self._call = call
        self._plan = plan
        self._hold = hold
        self.headers = headers
        self.instant = limits.instant

    def settle(self, usage: Usage | None) -> Coroutine[Any, Any, None]:
        """Count ``usage`` instead of what was reserved."""
        return self._limits.leave(self._call, self._plan, self._hold, usage)

    def release(self) -> Coroutine[Any, Any, None]:
        """Give everything back but the request itself."""
        return self._limits.leave(self._call, self._plan, self._hold, None)
