"""Counting in Redis or Valkey: exact over any number of processes and machines.

Each decision is one script, over all limits of the call, by the clock of Redis. The scripts count in Lua, whose numbers
are exact to 2^53: larger amounts are taken for that. What Redis forgets (it is emptied, or restarted without its data)
is forgotten: sliding limits begin anew, calendar periods ask to be seeded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib import resources
from itertools import islice

from gatewaykit.errors import Unavailable
from gatewaykit.limiting.backend import Backend, Charge, Decision
from gatewaykit.limiting.memory import LEASE
from gatewaykit.limits import Limit, Period, Standing, period
from gatewaykit.redislink import RedisLink, Script

_MOST = 2**53
_AT_ONCE = 200
_TRIES = 3
_LONGEST_NAME = 256
_HOUR = 3600


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

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all or nothing."""

        def args(now: float) -> list[str | int]:
            told = [f"{_within(charge.amount)} {_terms(charge.limit, now)}" for charge in charges]
            return [self._time(), hold, self._lease(), *told]

        if not charges:
            return Decision(())
        numbers = await self._numbers(_RESERVE, self._keys(charge.limit for charge in charges), args)
        states = numbers[::4]
        standings = tuple(
            _standing(charge.limit, *numbers[4 * at + 1 : 4 * at + 4]) for at, charge in enumerate(charges)
        )
        refused = tuple(at for at, state in enumerate(states) if state & 1)
        return Decision(standings, refused, tuple(at for at, state in enumerate(states) if state & 2))

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held."""
        if charges:
            amounts = [0 if charge.limit.unit == "concurrency" else _within(charge.amount) for charge in charges]
            keys = self._keys(charge.limit for charge in charges)
            await self._link.run(_SETTLE, keys, [self._time(), hold, *amounts])

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """Let holds live on, some hundreds with each script."""
        pairs = ((limit, hold) for hold, limits in holds.items() for limit in limits)
        while batch := list(islice(pairs, _AT_ONCE)):
            by_limit: dict[Limit, list[str]] = {}
            for limit, hold in batch:
                by_limit.setdefault(limit, []).append(hold)
            args: list[str | int] = [self._time(), self._lease()]
            for names in by_limit.values():
                args += [len(names), *names]
            await self._link.run(_RENEW, self._keys(by_limit), args)

    async def seed(self, limit: Limit, used: int) -> None:
        """Begin a calendar period with what was used in it before."""

        def args(now: float) -> list[str | int]:
            return [self._time(), self._lease(), _within(used), _terms(limit, now)]

        if isinstance(limit.span, str):
            await self._numbers(_SEED, self._keys([limit]), args)

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How limits stand, some hundreds with each script."""
        found: list[Standing] = []
        for at in range(0, len(limits), _AT_ONCE):
            found += await self._standings(limits[at : at + _AT_ONCE])
        return tuple(found)

    async def _standings(self, limits: Sequence[Limit]) -> Iterator[Standing]:
        def args(now: float) -> list[str | int]:
            return [self._time(), *(_terms(limit, now) for limit in limits)]

        numbers = await self._numbers(_STANDINGS, self._keys(limits), args)
        return (_standing(limit, *numbers[3 * at : 3 * at + 3]) for at, limit in enumerate(limits))

    async def _numbers(
        self, script: Script, keys: Sequence[str], args: Callable[[float], Sequence[str | int]]
    ) -> list[int]:
        """The numbers a script answers.

        Periods are computed here, so by this machine's clock. If Redis has another period, it says its time instead of
        an answer, and from then on periods are computed by that.
        """
        for _ in range(_TRIES):
            now = time.time() + self._ahead if self._clock is None else self._clock()
            answer = await self._link.run(script, keys, args(now))
            if not isinstance(answer, int):
                return [int(number) for number in answer.split()]
            if answer == 0:
                return []
            self._ahead = answer / 1000 - time.time()
        raise Unavailable(retry_after=1.0, detail="redis: its clock jumps")

    def _keys(self, limits: Iterable[Limit]) -> list[str]:
        prefix = self._link.prefix
        return [key for limit in limits for key in _keys(prefix, limit.key)]

    def _time(self) -> str | int:
        return "" if self._clock is None else int(self._clock() * 1000)

    def _lease(self) -> int:
        return max(1, round(self.lease * 1000))


def _keys(prefix: str, key: str) -> tuple[str, str, str]:
    """The keys of a limit. They are short, though a subject may hold any text that a client calls a model."""
    name = f"{prefix}limits/{key}"
    if len(key) > _LONGEST_NAME:
        name = f"{prefix}long-limits/{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=20).hexdigest()}"
    return name, f"{name}/leases", f"{name}/holds"


def _within(amount: int) -> int:
    return max(0, min(_MOST, amount))


def _terms(limit: Limit, now: float) -> str:
    """A limit as the scripts are told it: "most held span begins ends"."""
    if isinstance(limit.span, str):
        begins, ends = _period(limit.span, int(now // _HOUR))
        return f"{_within(limit.amount)} {limit.held:d} -1 {begins} {ends}"
    span = 0 if limit.unit == "concurrency" else limit.span * 1000
    return f"{_within(limit.amount)} {limit.held:d} {span} 0 0"


@lru_cache(maxsize=16)
def _period(span: Period, hour: int) -> tuple[int, int]:
    """Begin in seconds and end in milliseconds of the period in which an hour of unix time is; all begin with one."""
    begins, ends = period(span, hour * _HOUR)
    return int(begins), -1 if ends == math.inf else int(ends * 1000)


def _standing(limit: Limit, used: int, resets: int, room_in: int) -> Standing:
    return Standing(limit, used, _seconds(resets), _seconds(room_in))


def _seconds(milliseconds: int) -> float:
    return math.inf if milliseconds < 0 else milliseconds / 1000
