"""Who counts the places of credentials: this process alone, or a store that several processes share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from gatewaykit.errors import GatewayError
from gatewaykit.limiting import Backend, Charge, new_hold
from gatewaykit.limits import Limit

if TYPE_CHECKING:
    from .member import Member

_RENEWALS_PER_LEASE = 3
logger = logging.getLogger(__name__)


class Slots(Protocol):
    """Counts places that are taken, beyond this process. ``instant`` says that nothing is counted there."""

    instant: bool

    async def take(self, member: Member) -> str | None:
        """The name of the hold on a place of ``member``; ``None`` if there is none free, for all who share."""
        ...

    def give_back(self, member: Member, hold: str) -> None:
        """The place is free."""
        ...

    async def look(self, members: Sequence[Member]) -> None:
        """Find out how many places are taken of each, for all who share."""
        ...

    async def aclose(self) -> None:
        """All that is under way has come to its end."""
        ...


class LocalSlots(Slots):
    """This process is alone: what it counts itself, in :class:`~.member.Member`, is all there is."""

    instant = True

    async def take(self, member: Member) -> str | None:
        """There is nothing to ask."""
        return ""

    def give_back(self, member: Member, hold: str) -> None:
        """There is nobody to tell."""

    async def look(self, members: Sequence[Member]) -> None:
        """Nothing is taken beyond what the members know."""

    async def aclose(self) -> None:
        """Nothing is under way."""


class SharedSlots(Slots):
    """Places counted in ``backend`` as a limit of concurrency for each credential, by the name ``member.shared_name``.

    A hold lives as long as its call, and no longer than the backend's lease if this process dies. While the backend is
    away, its own policy decides.
    """

    instant = False

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._live: dict[str, Limit] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def take(self, member: Member) -> str | None:
        """One of the places, or None."""
        limit = _limit(member)
        hold = new_hold()
        decision = await self._backend.reserve(hold, [Charge(limit, 1)])
        member.taken_by_all = decision.standings[0].used
        if not decision.taken:
            return None
        self._live[hold] = limit
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="gigachat-places", context=Context())
        return hold

    def give_back(self, member: Member, hold: str) -> None:
        """Tell the backend, without waiting for that."""
        limit = self._live.pop(hold, None)
        if limit is not None:
            member.taken_by_all = max(0, member.taken_by_all - 1)
            task = asyncio.create_task(self._settle(hold, limit))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def look(self, members: Sequence[Member]) -> None:
        """Ask for all of them at once."""
        limited = [member for member in members if member.slots]
        standings = await self._backend.standings([_limit(member) for member in limited])
        for member, standing in zip(limited, standings, strict=True):
            member.taken_by_all = standing.used

    async def aclose(self) -> None:
        """Wait until everything that was given back is known to the backend."""
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        while self._ending:
            await asyncio.gather(*self._ending)
        await self._backend.aclose()

    async def _settle(self, hold: str, limit: Limit) -> None:
        try:
            await self._backend.settle(hold, [Charge(limit, 0)])
        except GatewayError as error:
            logger.warning("gigachat: a place was not given back, and will be with its lease: %s", error)

    async def _renew(self) -> None:
        while self._live:
            await asyncio.sleep(self._backend.lease / _RENEWALS_PER_LEASE)
            try:
                await self._backend.renew({hold: (limit,) for hold, limit in self._live.items()})
            except GatewayError as error:
                logger.warning("gigachat: %d places could not be renewed: %s", len(self._live), error)


def _limit(member: Member) -> Limit:
    return Limit(f"gigachat:{member.shared_name}", "concurrency", member.slots, 0)
