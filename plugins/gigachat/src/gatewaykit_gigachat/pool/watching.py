"""Watching credentials without a paid call: those that left the pool are probed, and balances are read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context

from msgspec import Struct

from gatewaykit.errors import GatewayError, ProviderDenied

from .member import Member

logger = logging.getLogger(__name__)
_BALANCE_LASTS = 1.5


class WatchTimes(Struct, frozen=True):
    """Seconds: ``first_probe`` until a credential that left is probed, then twice as long each time, up to
    ``longest_probe``; ``balance`` between two looks at the balance, 0 for none.
    """

    first_probe: float = 2.0
    longest_probe: float = 60.0
    balance: float = 300.0


class Watcher:
    """Probes members that left until they come back; ``on_return`` is called when one does."""

    def __init__(self, members: Sequence[Member], times: WatchTimes, on_return: Callable[[], None]) -> None:
        self._members = members
        self._times = times
        self._on_return = on_return
        self._probing: dict[Member, asyncio.Task[None]] = {}
        self._seen: dict[Member, int] = {}
        self._silent: set[Member] = set()

    def look_after(self, member: Member) -> None:
        """See to it that a member that is out, or out of tokens, is probed."""
        if (not member.is_good or member.unpaid) and member not in self._probing:
            self._probing[member] = asyncio.create_task(
                self._probed(member), name=f"gigachat-{member.name}", context=Context()
            )

    @asynccontextmanager
    async def balances(self) -> AsyncIterator[None]:
        """Read the balances of those members that are used, every so often, until the block ends."""
        if not self._times.balance:
            yield
            return
        reading = asyncio.create_task(self._read_balances(), name="gigachat-balances")
        try:
            yield
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def aclose(self) -> None:
        """Stop probing."""
        tasks = list(self._probing.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _probed(self, member: Member) -> None:
        """It is off the list with the last look at it: who leaves right after that is probed anew."""
        try:
            await self._probe(member)
        finally:
            del self._probing[member]

    async def _probe(self, member: Member) -> None:
        pause = self._times.first_probe
        while not member.is_good or member.unpaid:
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._times.longest_probe)
            member.forgets_old_lacks()
            try:
                if not member.is_good:
                    await member.connection.probe()
                    member.comes_back()
                if member.unpaid:
                    await self._read_balance(member)
            except GatewayError as error:
                logger.debug("gigachat: the credential %s is not back: %s", member.name, error)
                continue
            self._on_return()

    async def _read_balances(self) -> None:
        while True:
            await asyncio.sleep(self._times.balance)
            for member in self._members:
                if member.calls != self._seen.get(member, 0) and member.is_good:
                    self._seen[member] = member.calls
                    try:
                        await self._read_balance(member)
                    except GatewayError as error:
                        logger.debug("gigachat: no balance of the credential %s: %s", member.name, error)
                    self.look_after(member)

    async def _read_balance(self, member: Member) -> None:
        """Pay-as-you-go accounts have none and answer 403: they are not asked again."""
        if member in self._silent:
            return
        balance: Mapping[str, int] | None = None
        try:
            balance = await member.connection.balance()
        except ProviderDenied:
            self._silent.add(member)
        member.tells_balance(balance, _BALANCE_LASTS * max(self._times.longest_probe, self._times.balance))
