"""Counting in Redis or Valkey: exact over any number of processes and machines.

Each decision is one script, over all limits of the call, by the clock of Redis. The scripts count in Lua, whose numbers
are exact to 2^53: larger amounts are taken for that. What Redis forgets (it is emptied, or restarted without its data)
is forgotten: sliding limits begin anew, calendar periods ask to be seeded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources

import msgspec

from gatewaykit.errors import Unavailable
from gatewaykit.limiting.backend import Backend, Charge, Charges, Decision
from gatewaykit.limiting.memory import LEASE
from gatewaykit.limiting.sheets import Sheet, Told, standing, state_key, within
from gatewaykit.limits import Limit, Standing
from gatewaykit.redislink import RedisLink, Script

_AT_ONCE = 200
_TRIES = 3
_MOST_SHEETS = 4096
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[int]).decode


def _script(name: str) -> Script:
    folder = resources.files("gatewaykit.limiting") / "lua"
    return Script((folder / "counting.lua").read_text() + (folder / f"{name}.lua").read_text())


_RESERVE, _SETTLE, _RENEW, _SEED, _STANDINGS = (
    _script(name) for name in ("reserve", "settle", "renew", "seed", "standings")
)


class RedisBackend(Backend):
    """Counts in Redis. ``clock``, in unix time, replaces that of Redis; for tests."""

    instant = False

    def __init__(self, link: RedisLink, *, lease: float = LEASE, clock: Callable[[], float] | None = None) -> None:
        self.lease = lease
        self._link = link
        self._clock = clock
        self._ahead = 0.0
        self._common = (f"{link.prefix}leases", f"{link.prefix}holds")
        self._sheets: dict[int, Sheet] = {}

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing."""
        if not charges:
            return Decision(())
        sheet, amounts = self._written(charges)
        numbers, now = await self._numbers(_RESERVE, sheet, [hold, self._lease(), _pack(sheet.ordered(amounts))])
        return Told(sheet, numbers).decision(now)

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        if charges:
            sheet, amounts = self._written(charges)
            real = _pack(sheet.settled(amounts))
            await self._link.run(_SETTLE, [*self._common, *sheet.keys], [self._time(), hold, real])

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on, as many with each script as have some hundreds of limits."""
        names: list[str] = []
        keys: dict[str, None] = {}
        count = 0
        for hold, limits in holds.items():
            subjects = [limit.subject for limit in limits]
            names.append(hold)
            keys |= dict.fromkeys(state_key(self._link.prefix, subject) for subject in subjects)
            count += len(subjects)
            if count >= _AT_ONCE:
                await self._renew(names, keys)
                names, keys, count = [], {}, 0
        if names:
            await self._renew(names, keys)

    async def _renew(self, holds: Sequence[str], keys: Iterable[str]) -> None:
        await self._link.run(_RENEW, [*self._common, *keys], [self._time(), self._lease(), *holds])

    async def seed(self, limit: Limit, used: int, begins: float) -> None:
        """Begin a calendar period with what was used in it before."""
        if isinstance(limit.span, str):
            sheet = Sheet(self._link.prefix, (limit,))
            words = [self._time(), within(used), sheet.terms(begins)]
            await self._link.run(_SEED, [*self._common, *sheet.keys], words)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand, some hundreds with each script."""
        found: list[Standing] = []
        for at in range(0, len(limits), _AT_ONCE):
            sheet = Sheet(self._link.prefix, tuple(limits[at : at + _AT_ONCE]))
            numbers, _ = await self._numbers(_STANDINGS, sheet, [])
            rows = [numbers[place : place + 3] for place in range(0, len(numbers), 3)]
            found += [standing(limit, *rows[row]) for limit, row in zip(sheet.limits, sheet.rows, strict=True)]
        return tuple(found)

    def _written(self, charges: Sequence[Charge]) -> tuple[Sheet, Sequence[int]]:
        """The sheet of the limits, remembered for those who will come with the same ones, and the amounts."""
        if not isinstance(charges, Charges):
            return Sheet(self._link.prefix, tuple(charge.limit for charge in charges)), [
                charge.amount for charge in charges
            ]
        limits = charges.limits
        known = self._sheets.get(id(limits))
        if known is None:
            if len(self._sheets) >= _MOST_SHEETS:
                self._sheets.clear()
            known = self._sheets[id(limits)] = Sheet(self._link.prefix, limits)
        return known, charges.amounts

    async def _numbers(
        self, script: Script, sheet: Sheet, words: Sequence[str | int | bytes]
    ) -> tuple[list[int], float]:
        """The numbers a script answers, which is given the time, ``words``, and the limits; and the time, in unix time.

        Periods are computed here, so by this machine's clock. If Redis has another period, it says its time instead of
        an answer, and from then on periods are computed by that.
        """
        keys = [*self._common, *sheet.keys]
        for _ in range(_TRIES):
            now = time.time() + self._ahead if self._clock is None else self._clock()
            answer = await self._link.run(script, keys, [self._time(), *words, sheet.terms(now)])
            if not isinstance(answer, int):
                return _unpack(answer), now
            self._ahead = answer / 1000 - time.time()
        raise Unavailable(retry_after=1.0, detail="redis: its clock jumps")

    def _time(self) -> str | int:
        return "" if self._clock is None else int(self._clock() * 1000)

    def _lease(self) -> int:
        return max(1, round(self.lease * 1000))
