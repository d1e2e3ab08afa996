"""A store that several processes share, and what happens while it does not answer."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from msgspec import Struct

from gatewaykit.errors import GatewayError, Unanswered, Unavailable
from gatewaykit.limiting.backend import Backend, Charge, Charges, Decision, new_hold
from gatewaykit.limiting.debts import Debt, Debts
from gatewaykit.limiting.memory import MemoryBackend
from gatewaykit.limits import Limit, Standing, slicing
from gatewaykit.metrics import Reading
from gatewaykit.metrics.names import LIMITER_ALONE, LIMITER_DEGRADED, LIMITER_LOST

Policy: TypeAlias = Literal["local", "deny", "allow"]
_MOST_HOLDS = 100_000
_MOST_LATE = 10_000
_PAUSE = 1.0
_NO_BOUND = 2**62


class _Held(Struct):
    """When a hold was taken, by the clock of the store that has it, and until when (monotonic) it surely lives there:
    without end ``here``, where leases cannot be missed.
    """

    at: float
    until: float
    here: bool = False


class _Late(Struct):
    """What a hold is to be settled to, and until when (monotonic) that can make a difference. ``at`` is when it was
    taken; None if that is not known, and nothing is owed for it.
    """

    hold: str
    charges: Sequence[Charge]
    until: float
    at: float | None = None


class GuardedBackend(Backend):
    """``remote``, and while it raises :class:`~gatewaykit.errors.Unavailable`, ``policy``.

    ``local``: this process counts in ``local``, where each limit has an ``instances``-th of its amount (at least 1);
    calendar periods have to be seeded anew in each outage. ``deny``: the error is raised. ``allow``: everything passes.
    The remote store is asked each time, so its return needs nothing; it must be quick to say that it is away.

    Holds are settled where they were taken. What cannot be settled in the remote store is tried again every second, as
    long as the hold lives. ``on_change`` is called with ``degraded`` when that changes.

    What was used of calendar periods without the remote store, or on holds that ended there because nobody could renew
    them, is owed to it, and counted there once it answers: by a hold of nothing, which is settled like any other and so
    counts once. A period that is over then, or that the store knows nothing of, is not owed any more: who begins it
    asks the books.
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
        self._holds: dict[str, _Held] = {}
        self._late: deque[_Late] = deque()
        self._debts = Debts()
        self._settling: asyncio.Task[None] | None = None

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing. What the remote store may have taken without saying so is given back soon."""
        asked = time.monotonic()
        try:
            decision = await self._remote.reserve(hold, charges)
        except (Unavailable, asyncio.CancelledError) as error:
            if isinstance(error, Unanswered | asyncio.CancelledError):
                nothing = [Charge(charge.limit, 0) for charge in charges if charge.limit.held]
                self._settle_later(_Late(hold, nothing, time.monotonic() + self.lease))
            if isinstance(error, asyncio.CancelledError):
                raise
            return await self._reserve_here(hold, charges, error)
        self._turn(degraded=False)
        if decision.unseeded:
            self._debts.forgive(charges[place].limit for place in decision.unseeded)
        elif not decision.refused:
            self._remember(hold, charges, _Held(decision.now, asked + self.lease))
        return decision

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held, or promise to."""
        held = self._holds.pop(hold, None)
        if held is None:
            await self._settle_there(_Late(hold, charges, time.monotonic() + self.lease))
        elif held.here:
            await self._local.settle(hold, charges)
            self._owe(charges, held.at)
        elif held.until < time.monotonic():
            self._owe(charges, held.at)
        else:
            await self._settle_there(_Late(hold, charges, held.until, held.at))

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on; those in a store that is away may end."""
        asked = time.monotonic()
        known = self._holds
        here = {hold: limits for hold, limits in holds.items() if hold in known and known[hold].here}
        await self._local.renew(here)
        remote = {hold: limits for hold, limits in holds.items() if hold not in here}
        if not remote:
            return
        try:
            await self._remote.renew(remote)
        except Unavailable:
            self.lost += len(remote)
            return
        for hold in remote:
            held = known.get(hold)
            if held is not None and held.until > asked:
                held.until = asked + self.lease

    async def seed(self, limit: Limit, used: int, begins: float) -> None:
        """Begin a calendar period in the store that decides now."""
        if not self.degraded or self._policy == "deny":
            try:
                await self._remote.seed(limit, used, begins)
                return
            except Unavailable as error:
                self._away(error)
        await self._local.seed(limit, used // self._instances, begins)

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
        """Try once more to settle what is late, and to count what is owed.

        The task that does so every second may be of another event loop, in which the same gateway goes on.
        """
        task = self._settling
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])
        await self._catch_up()

    async def _reserve_here(self, hold: str, charges: Sequence[Charge], error: Unavailable) -> Decision:
        self._away(error)
        self.decided_alone += 1
        if self._policy == "allow":
            decision = Decision(tuple(Standing(charge.limit, charge.amount) for charge in charges), now=time.time())
        else:
            decision = await self._local.reserve(hold, self._shares(charges))
            decision.standings = self._whole(decision.standings, [charge.limit for charge in charges])
        if decision.taken:
            self._remember(hold, charges, _Held(decision.now, math.inf, here=True))
            self._owe([charge for charge in charges if not charge.limit.held], decision.now)
        return decision

    def _remember(self, hold: str, charges: Sequence[Charge], held: _Held) -> None:
        """Know ``hold`` until it is settled, if it will be."""
        limits = charges.limits if isinstance(charges, Charges) else [charge.limit for charge in charges]
        if not any(limit.held for limit in limits):
            return
        self._holds[hold] = held
        if len(self._holds) > _MOST_HOLDS:
            self._holds.pop(next(iter(self._holds)), None)

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

    async def _settle_there(self, late: _Late) -> None:
        try:
            await self._remote.settle(late.hold, late.charges)
        except (Unavailable, asyncio.CancelledError) as error:
            self._settle_later(late)
            if isinstance(error, asyncio.CancelledError):
                raise

    def _settle_later(self, late: _Late) -> None:
        if not late.charges:
            return
        self._late.append(late)
        if len(self._late) > _MOST_LATE:
            self._late.popleft()
            self.lost += 1
        self._wake()

    def _owe(self, charges: Iterable[Charge], at: float) -> None:
        self._debts.owe(charges, at)
        if self._debts:
            self._wake()

    def _wake(self) -> None:
        """Let somebody try every second what could not be done at once."""
        if self._settling is None or self._settling.done() or self._settling.get_loop().is_closed():
            self._settling = asyncio.get_running_loop().create_task(self._keep_settling(), name="gatewaykit-settling")

    async def _keep_settling(self) -> None:
        while self._late or self._debts:
            await asyncio.sleep(_PAUSE * random.uniform(0.75, 1.25))
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Settle what is late, then count what is owed, until the store is away again."""
        await self._settle_late()
        while not self._late and (debt := self._debts.pop()) is not None and await self._is_done_with(debt):
            await self._settle_late()

    async def _settle_late(self) -> None:
        """Settle in order, until the store is away again."""
        while (late := self._first_late()) is not None:
            if late.until < time.monotonic():
                self.lost += 1
                if late.at is not None:
                    self._debts.owe(late.charges, late.at)
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

    def _first_late(self) -> _Late | None:
        try:
            return self._late.popleft()
        except IndexError:
            return None

    async def _is_done_with(self, debt: Debt) -> bool:
        """Hold what is owed to the remote store, if it is in that period; False while it is away, or before it."""
        hold, asked = new_hold(), time.monotonic()
        limit = replace(debt.limit, amount=_NO_BOUND)
        try:
            decision = await self._remote.reserve(hold, [Charge(limit, 0)])
        except (Unavailable, asyncio.CancelledError) as error:
            self._debts.put(debt)
            if isinstance(error, asyncio.CancelledError):
                raise
            return False
        except GatewayError:
            self.lost += 1
            return True
        begun = slicing(debt.limit.span, decision.now).current
        if begun < debt.begins:
            self._debts.put(debt)
        elif decision.taken and begun == debt.begins:
            await self._count(hold, Charge(limit, debt.amount), _Held(decision.now, asked + self.lease))
        return begun >= debt.begins

    async def _count(self, hold: str, charge: Charge, held: _Held) -> None:
        """What is settled can be tried again. What is counted at once cannot, and is given up where no answer comes."""
        if charge.limit.held:
            self._late.append(_Late(hold, [charge], held.until, held.at))
            return
        try:
            await self._remote.reserve(new_hold(), [charge])
        except Unavailable:
            self.lost += 1
