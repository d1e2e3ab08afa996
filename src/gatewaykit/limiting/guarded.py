"""A store that several processes share, and what happens while it does not answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from msgspec import Struct

from gatewaykit.errors import GatewayError, Unanswered, Unavailable
from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.memory import MemoryBackend
from gatewaykit.limits import Limit, Standing
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import LIMITER_ALONE, LIMITER_DEGRADED, LIMITER_LOST

Policy: TypeAlias = Literal["local", "deny", "allow"]
_MOST_HOLDS = 100_000
_MOST_LATE = 10_000
_PAUSE = 1.0


class _Late(Struct):
    """What a hold is to be settled to, and until when (monotonic) that can make a difference."""

    hold: str
    charges: Sequence[Charge]
    until: float


class GuardedBackend(Backend):
    """``remote``, and while it raises :class:`~gatewaykit.errors.Unavailable`, ``policy``.

    ``local``: this process counts in ``local``, where each limit has an ``instances``-th of its amount (at least 1);
    calendar periods have to be seeded anew in each outage. ``deny``: the error is raised. ``allow``: everything passes.
    The remote store is asked each time, so its return needs nothing; it must be quick to say that it is away.

    Holds are settled where they were taken. What cannot be settled in the remote store is tried again every second, for
    a lease. ``on_change`` is called with ``degraded`` when that changes.
    """

    instant = False

    def __init__(
        self,
        remote: Backend,
        *,
        local: MemoryBackend,
        policy: Policy = "local",
        instances: int = 1,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self.lease = remote.lease
        self.degraded = False
        self.decided_alone = 0
        """Decisions that were made without the remote store."""
        self.settled_late = 0
        self.lost = 0
        """Holds that could not be settled or renewed; they end with their lease as if they had never been."""
        self._remote = remote
        self._local = local
        self._policy = policy
        self._instances = instances
        self._on_change = on_change
        self._taken_here: dict[str, None] = {}
        self._late: deque[_Late] = deque()
        self._settling: asyncio.Task[None] | None = None

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing. What the remote store may have taken without saying so is given back soon."""
        try:
            decision = await self._remote.reserve(hold, charges)
        except (Unavailable, asyncio.CancelledError) as error:
            if isinstance(error, Unanswered | asyncio.CancelledError):
                self._settle_later(hold, [Charge(charge.limit, 0) for charge in charges if charge.limit.held])
            if isinstance(error, asyncio.CancelledError):
                raise
            return await self._reserve_here(hold, charges, error)
        self._turn(degraded=False)
        return decision

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held, or promise to."""
        if hold in self._taken_here:
            del self._taken_here[hold]
            await self._local.settle(hold, charges)
            return
        try:
            await self._remote.settle(hold, charges)
        except (Unavailable, asyncio.CancelledError) as error:
            self._settle_later(hold, charges)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on; those in a store that is away may end."""
        await self._local.renew({hold: limits for hold, limits in holds.items() if hold in self._taken_here})
        remote = {hold: limits for hold, limits in holds.items() if hold not in self._taken_here}
        if remote:
            try:
                await self._remote.renew(remote)
            except Unavailable:
                self.lost += len(remote)

    async def seed(self, limit: Limit, used: int) -> None:
        """Begin a calendar period in the store that decides now."""
        if not self.degraded or self._policy == "deny":
            try:
                await self._remote.seed(limit, used)
                return
            except Unavailable as error:
                self._away(error)
        await self._local.seed(limit, used // self._instances)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand, in the store that decides now."""
        try:
            return await self._remote.standings(limits)
        except Unavailable as error:
            self._away(error)
        if self._policy == "allow":
            return tuple(Standing(limit, 0) for limit in limits)
        return tuple(self._whole(await self._local.standings([self._share(limit) for limit in limits]), limits))

    def readings(self) -> Iterator[Reading]:
        """Whether the remote store decides, and what that it did not has cost."""
        yield Reading(LIMITER_DEGRADED, float(self.degraded))
        yield Reading(LIMITER_ALONE, self.decided_alone)
        yield Reading(LIMITER_LOST, self.lost)

    async def aclose(self) -> None:
        """Try once more to settle what is late."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        await self._settle_late()

    async def _reserve_here(self, hold: str, charges: Sequence[Charge], error: Unavailable) -> Decision:
        self._away(error)
        self.decided_alone += 1
        if self._policy == "allow":
            decision = Decision(tuple(Standing(charge.limit, charge.amount) for charge in charges))
        else:
            decision = await self._local.reserve(hold, self._shares(charges))
            decision.standings = self._whole(decision.standings, [charge.limit for charge in charges])
        if decision.taken and any(charge.limit.held for charge in charges):
            self._taken_here[hold] = None
            if len(self._taken_here) > _MOST_HOLDS:
                del self._taken_here[next(iter(self._taken_here))]
        return decision

    def _away(self, error: Unavailable) -> None:
        self._turn(degraded=True)
        if self._policy == "deny":
            raise error

    def _turn(self, *, degraded: bool) -> None:
        if degraded is self.degraded:
            return
        self.degraded = degraded
        if degraded:
            self._local.forget_periods()
        if self._on_change is not None:
            self._on_change(degraded)

    def _shares(self, charges: Sequence[Charge]) -> Sequence[Charge]:
        if self._instances == 1:
            return charges
        return [Charge(self._share(charge.limit), charge.amount) for charge in charges]

    def _share(self, limit: Limit) -> Limit:
        if self._instances == 1 or not limit.amount:
            return limit
        return replace(limit, amount=max(1, limit.amount // self._instances))

    def _whole(self, standings: Sequence[Standing], limits: Sequence[Limit]) -> Sequence[Standing]:
        """The same standings of the whole limits: what remains is what remains of the share."""
        if self._instances == 1:
            return standings
        return tuple(
            Standing(limit, share.used + limit.amount - share.limit.amount, share.resets, share.room_in)
            for share, limit in zip(standings, limits, strict=True)
        )

    def _settle_later(self, hold: str, charges: Sequence[Charge]) -> None:
        if not charges:
            return
        self._late.append(_Late(hold, charges, time.monotonic() + self.lease))
        if len(self._late) > _MOST_LATE:
            self._late.popleft()
            self.lost += 1
        if self._settling is None or self._settling.done() or self._settling.get_loop().is_closed():
            self._settling = asyncio.get_running_loop().create_task(self._keep_settling(), name="gatewaykit-settling")

    async def _keep_settling(self) -> None:
        while self._late:
            await asyncio.sleep(_PAUSE * random.uniform(0.75, 1.25))
            await self._settle_late()

    async def _settle_late(self) -> None:
        """Settle in order, until the store is away again."""
        while self._late:
            late = self._late.popleft()
            if late.until < time.monotonic():
                self.lost += 1
                continue
            try:
                await self._remote.settle(late.hold, late.charges)
                self.settled_late += 1
            except Unavailable:
                self._late.appendleft(late)
                return
            except asyncio.CancelledError:
                self._late.appendleft(late)
                raise
            except GatewayError:
                self.lost += 1
