"""The pool: gives each call a place at the freest credential, and lets calls wait in a fair queue while there is none.

It belongs to one event loop. While nobody waits a place costs a glance at each credential. Where several processes
share the credentials, each has a queue of its own, and those that have calls waiting look for free places at random
moments, the more often the more keys wait in them. A place goes to whoever looks first after it became free; looks are
Poisson processes, so each process gets a share in proportion to the weight of its waiting keys, with nothing shared
beyond the places themselves.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import TypeVar

from msgspec import Struct

from gatewaykit.errors import GatewayError, ProviderBadAnswer, ProviderTimeout
from gatewaykit.metrics import Distribution
from gatewaykit.metrics.names import QUEUE_POSITION, QUEUE_WAIT

from ..errors import Refused
from .member import Member
from .owners import FileOwners
from .queue import FairQueue, Full
from .seats import Ask, Lease, PoolBusy, Waiter
from .slots import LocalSlots, Slots
from .snapshot import MemberSnapshot, PoolSnapshot
from .watching import Watcher, WatchTimes

T = TypeVar("T")
Use = Callable[[Lease], Awaitable[T]]
_GRACE = 0.25
"""Seconds until the service has surely noticed that nobody reads an answer any more, and its place is free there."""
_LOOK = 0.05
"""Mean seconds between two looks for free places in a process where one key of weight 1 waits."""

_QUICKEST_LOOK = 0.005
_FIRST_GUESS = 1.0
logger = logging.getLogger(__name__)


class QueueBounds(Struct, frozen=True):
    """At most ``longest`` calls wait, ``longest_line`` of one key, for ``max_wait`` seconds."""

    longest: int = 500
    longest_line: int = 100
    max_wait: float = 30.0


class Pool:
    """Places at ``members``, counted by ``slots`` beyond this process. ``files`` knows whose they are; ``waits`` (in
    seconds) and ``positions`` are those of the calls that had to wait.
    """

    def __init__(
        self,
        members: Sequence[Member],
        slots: Slots | None = None,
        bounds: QueueBounds | None = None,
        times: WatchTimes | None = None,
    ) -> None:
        self.members = tuple(members)
        self.files = FileOwners(self.members)
        self._bounds = bounds or QueueBounds()
        self._slots = slots or LocalSlots()
        self._queue: FairQueue[Waiter] = FairQueue(self._bounds.longest, self._bounds.longest_line)
        self._watcher = Watcher(self.members, times or WatchTimes(), self._dispatch)
        self._serving: asyncio.Task[None] | None = None
        self._leaving: dict[Lease, asyncio.TimerHandle] = {}
        self._again: asyncio.TimerHandle | None = None
        self._usual_seconds = _FIRST_GUESS
        self._waited, self._wait_seconds = 0, 0.0
        self.waits, self.positions = Distribution(QUEUE_WAIT.bounds), Distribution(QUEUE_POSITION.bounds)
        self._refused_full, self._refused_late, self._left = 0, 0, 0

    async def run(self, ask: Ask, use: Use[T]) -> T:
        """What ``use`` makes of a place; of one at another credential, where that was what the first one failed for.

        ``use`` ends the lease when its answer is over; if it raises, that is done here.
        """
        ask.tried.clear()
        while True:
            lease = self._at_once(ask) or await self.lease(ask)
            try:
                result = await use(lease)
            except (GatewayError, Refused) as error:
                cause = error.error if isinstance(error, Refused) else error
                others = self._another(lease.member, ask, cause)
                lease.end(whole=not isinstance(cause, ProviderTimeout | ProviderBadAnswer))
                if not others:
                    raise
            except BaseException:
                lease.end(whole=False)
                raise
            else:
                lease.member.worked()
                return result

    async def lease(self, ask: Ask) -> Lease:
        """A place, at once or after waiting for it. Raises :class:`~.seats.PoolBusy`."""
        if lease := self._at_once(ask):
            return lease
        if not self._queue and not self._slots.instant and (lease := await self._shared(ask)):
            return lease
        return await self._after_waiting(ask)

    def snapshot(self) -> PoolSnapshot:
        """How the pool stands now."""
        now = time.monotonic()
        return PoolSnapshot(
            tuple(_member_snapshot(member) for member in self.members),
            waiting=len(self._queue),
            oldest_wait=max((now - waiter.since for waiter in self._queue), default=0.0),
            waited=self._waited,
            wait_seconds=self._wait_seconds,
            refused_full=self._refused_full,
            refused_late=self._refused_late,
            left=self._left,
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Balances are watched meanwhile."""
        async with self._watcher.balances():
            yield

    async def aclose(self) -> None:
        """Give back every place whose call is over, and stop what runs in the background."""
        for lease, timer in list(self._leaving.items()):
            timer.cancel()
            self._free(lease)
        if self._again is not None:
            self._again.cancel()
        if self._serving is not None:
            self._serving.cancel()
            with suppress(asyncio.CancelledError):
                await self._serving
        await self._watcher.aclose()
        await self.files.aclose()
        await self._slots.aclose()

    # choosing

    def _eligible(self, ask: Ask) -> Sequence[Member]:
        """Those that can serve a call at all, well or badly."""
        only = ask.only
        return self.members if only is None else [member for member in self.members if member.name in only]

    def _at_once(self, ask: Ask) -> Lease | None:
        """A place, if this process alone counts them, and nobody waits for one."""
        if self._queue.length or not self._slots.instant:
            return None
        member = self._freest(ask)
        return None if member is None else self._granted(member, "")

    def _candidates(self, ask: Ask) -> Sequence[Member]:
        """Where a call may go: where it is well placed; if nowhere, where it was not yet; or else anywhere."""
        members = self._eligible(ask)
        if len(members) == 1:
            return members
        well = [member for member in members if member.is_of_use(ask.model)]
        return well or [member for member in members if member.name not in ask.tried] or members

    def _freest(self, ask: Ask) -> Member | None:
        members: Sequence[Member] = self.members
        if len(members) > 1 or ask.only is not None:
            members = self._candidates(ask)
        if len(members) == 1:
            return members[0] if members[0].has_room else None
        free = [member for member in members if member.has_room]
        return min(free, key=lambda member: (member.load, member.calls), default=None)

    async def _shared(self, ask: Ask) -> Lease | None:
        """A place by the word of all processes: the freest member first, until one has room."""
        full: set[Member] = set()
        while True:
            free = [member for member in self._candidates(ask) if member.has_room and member not in full]
            if not free:
                return None
            member = min(free, key=lambda member: (member.load, member.calls))
            lease = await self._taken(member)
            if lease is not None:
                return lease
            full.add(member)

    async def _taken(self, member: Member) -> Lease | None:
        """A place at ``member`` by the word of all. It is kept from others in this process while they are asked."""
        member.in_use += 1
        hold: str | None = None
        try:
            hold = await self._slots.take(member) if member.slots else ""
        finally:
            member.in_use -= 1
        return None if hold is None else self._granted(member, hold)

    def _another(self, member: Member, ask: Ask, error: GatewayError) -> bool:
        """Note what ``error`` says of ``member``; whether there is another for this call, which may do better.

        While the call waits for that one, this one may be of use again: it is asked once more, and then it is over.
        """
        its_own = member.failed(ask.model, error) and member.name not in ask.tried
        self._watcher.look_after(member)
        ask.tried.add(member.name)
        others = (other for other in self._eligible(ask) if other.name not in ask.tried)
        return its_own and any(other.is_of_use(ask.model) for other in others)

    # giving and taking back

    def _granted(self, member: Member, hold: str) -> Lease:
        member.in_use += 1
        member.calls += 1
        return Lease(member, hold, self._ended)

    def _ended(self, lease: Lease, whole: bool) -> None:
        self._usual_seconds += (time.monotonic() - lease.began - self._usual_seconds) / 16
        if whole or not lease.member.slots:
            self._free(lease)
        else:
            loop = asyncio.get_running_loop()
            self._leaving[lease] = loop.call_later(_GRACE, self._free, lease)

    def _free(self, lease: Lease) -> None:
        if self._leaving:
            self._leaving.pop(lease, None)
        lease.member.in_use -= 1
        if lease.hold:
            self._slots.give_back(lease.member, lease.hold)
        if self._queue.length:
            self._dispatch()

    # waiting

    async def _after_waiting(self, ask: Ask) -> Lease:
        waiter = Waiter(ask, asyncio.get_running_loop().create_future())
        try:
            position = self._queue.put(ask.key, ask.weight, waiter)
        except Full:
            self._refused_full += 1
            raise self._busy("the queue is full") from None
        self._dispatch()
        if waiter.place.done():
            return waiter.place.result()
        ask.position = position
        self.positions.record(position)
        try:
            async with asyncio.timeout(self._bounds.max_wait):
                return await waiter.place
        except TimeoutError:
            self._gone(waiter)
            self._refused_late += 1
            raise self._busy(f"no place within {self._bounds.max_wait:g} s") from None
        except BaseException:
            self._gone(waiter)
            self._left += 1
            raise
        finally:
            seconds = time.monotonic() - waiter.since
            ask.waited += seconds
            self._waited += 1
            self._wait_seconds += seconds
            self.waits.record(seconds)

    def _gone(self, waiter: Waiter) -> None:
        """Nobody waits there any more, though a place may have been given to it in this very moment."""
        if not self._queue.remove(waiter.ask.key, waiter) and not waiter.place.cancelled():
            waiter.place.result().end()

    def _busy(self, detail: str) -> PoolBusy:
        """The refusal of a call, which says when a call at the end of the queue would be served."""
        places = sum(member.slots for member in self.members if member.slots) or 1
        wait = (len(self._queue) + 1) * self._usual_seconds / places
        return PoolBusy(retry_after=wait, detail=f"gigachat: {detail}, {len(self._queue)} calls wait")

    def _dispatch(self) -> None:
        """Give free places to those who wait."""
        if self._slots.instant:
            self._hand_out()
        elif self._queue and (self._serving is None or self._serving.done()):
            self._serving = asyncio.create_task(self._serve(), name="gigachat-queue", context=Context())

    def _hand_out(self) -> None:
        chosen: Member | None = None

        def fits(waiter: Waiter) -> bool:
            nonlocal chosen
            chosen = self._freest(waiter.ask)
            return chosen is not None

        while self._queue and (waiter := self._queue.take(fits)) is not None and chosen is not None:
            if not waiter.place.done():
                waiter.place.set_result(self._granted(chosen, ""))
        if self._queue and len(self.members) > 1:
            self._hand_out_again(min(member.rests_until for member in self.members))

    def _hand_out_again(self, at: float) -> None:
        """At that moment (monotonic) a member is of use again, which no call that ends would tell those who wait."""
        loop = asyncio.get_running_loop()
        seconds = at - time.monotonic()
        if self._again is not None:
            if self._again.when() <= loop.time() + seconds:
                return
            self._again.cancel()
        self._again = loop.call_later(seconds, self._rested) if at < math.inf else None

    def _rested(self) -> None:
        self._again = None
        self._hand_out()

    async def _serve(self) -> None:
        """Look for places at random moments while anybody waits, whatever a look itself takes."""
        at = time.monotonic()
        while self._queue:
            try:
                await self._slots.look(self.members)
                for member in self.members:
                    while self._wanted(member) and (lease := await self._taken(member)):
                        self._pass_on(lease)
            except GatewayError as error:
                logger.warning("gigachat: places cannot be counted: %s", error)
            now = time.monotonic()
            at = max(at, now - _LOOK) + self._pause()
            await asyncio.sleep(max(0.0, at - now))

    def _pause(self) -> float:
        """Seconds from one look to the next."""
        mean = max(_QUICKEST_LOOK, _LOOK / max(1.0, self._queue.weight))
        return min(random.expovariate(1 / mean), 4 * mean)

    def _wanted(self, member: Member) -> bool:
        """Whether ``member`` seems to have room, and somebody waits for it."""
        if not member.has_room or (member.slots and member.taken_by_all >= member.slots):
            return False
        return self._queue.wants(lambda waiter: member in self._candidates(waiter.ask))

    def _pass_on(self, lease: Lease) -> None:
        waiter = self._queue.take(lambda waiter: lease.member in self._candidates(waiter.ask))
        if waiter is None or waiter.place.done():
            lease.end()
        else:
            waiter.place.set_result(lease)


def _member_snapshot(member: Member) -> MemberSnapshot:
    member.forgets_old_lacks()
    return MemberSnapshot(
        name=member.name,
        scope=member.scope,
        health=member.health.value,
        slots=member.slots,
        in_use=member.in_use,
        calls=member.calls,
        token_expires=member.connection.token_expires,
        balance=None if member.balance is None else dict(member.balance),
        lacks={model: lack.reason for model, lack in tuple(member.lacks.items())},
        token_failures=dict(member.connection.token_failures),
        certificate_expires=member.connection.certificate_expires,
        trust_expires=member.connection.trust_expires,
    )
