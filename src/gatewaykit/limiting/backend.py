"""The contract between the limiter and the store that counts for it: memory, a database, or Redis.

A decision is atomic: either every charge fits and all are taken, or nothing is. Tokens, money and concurrency are held
under the call's id until they are settled; a hold that nobody settles or renews ends with its lease, as if the call had
never been.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, overload

import msgspec

from gatewaykit import chance
from gatewaykit.limits import Limit, Standing


class Charge(msgspec.Struct, frozen=True, gc=False):
    """``amount`` to be counted against ``limit``; 1 for a call under a limit of concurrency."""

    limit: Limit
    amount: int


class Charges(Sequence[Charge]):
    """The charges of a call, for one whose limits are known: ``amounts`` are in the order of ``limits``.

    A store may remember what it found for ``limits``, by that very tuple, and never look at a single charge.
    """

    __slots__ = ("amounts", "limits")

    def __init__(self, limits: tuple[Limit, ...], amounts: Sequence[int]) -> None:
        self.limits = limits
        self.amounts = amounts

    def __len__(self) -> int:
        return len(self.limits)

    @overload
    def __getitem__(self, place: int) -> Charge: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Charge]: ...
    def __getitem__(self, place: int | slice) -> Charge | Sequence[Charge]:
        if isinstance(place, slice):
            return [Charge(*pair) for pair in zip(self.limits[place], self.amounts[place], strict=True)]
        return Charge(self.limits[place], self.amounts[place])


class Standings(Sequence[Standing], ABC):
    """How limits stand, worked out as far as it is looked at."""

    __slots__ = ()

    @abstractmethod
    def figures(self, count: int) -> tuple[Sequence[int], Sequence[float]]:
        """What is used of the first ``count`` limits, and in how many seconds nothing of that counts any more.

        The seconds may be up to one more than they are; they are the very same object as long as they are the same.
        """


class Decision(msgspec.Struct):
    """The answer to a reservation: one standing for each charge, in order, after what was taken. A store may work them
    out when they are looked at: what is of that moment is to be read at once.

    ``refused`` are the positions of the charges that do not fit. ``unseeded`` are the positions of those whose calendar
    period this store knows nothing of: :meth:`Backend.seed` them and ask again. If either is not empty, nothing was
    taken. ``now`` is the unix time of the store, by which calendar periods are those that they are.
    """

    standings: Sequence[Standing]
    refused: tuple[int, ...] = ()
    unseeded: tuple[int, ...] = ()
    now: float = 0.0

    @property
    def taken(self) -> bool:
        """Whether everything was taken."""
        return not (self.refused or self.unseeded)


def new_hold() -> str:
    """A name that nobody else gives to what a call holds."""
    return f"{chance.bits(96):024x}"


class Backend(Protocol):
    """A store that counts. Every method may raise :class:`~gatewaykit.errors.Unavailable`.

    A charge fits if what is used and the charge together are at most the limit's amount. An amount of 0 always fits
    where no more than the amount is used. ``lease`` is how many seconds a hold lives unless it is renewed;
    ``instant`` says that no method ever waits.
    """

    lease: float
    instant: bool = False

    async def reserve(self, hold: str, charges: Sequence[Charge]) -> Decision:
        """Take all ``charges``, or nothing. A limit occurs at most once.

        ``hold`` is new each time, also where the same call asks again: what a store may have taken without saying so is
        given back by that name.
        """
        ...

    async def settle(self, hold: str, charges: Sequence[Charge]) -> None:
        """Replace what is held under ``hold`` by what was really used, and give concurrency back.

        ``charges`` are those reserved whose limit is :attr:`~gatewaykit.limits.Limit.held`, all of them and in the same
        order, with the real amounts, which may be larger than those reserved. They count in the slice of the
        reservation. Again, or after the lease has ended, it does nothing.
        """
        ...

    async def renew(self, holds: Mapping[str, Iterable[Limit]]) -> None:
        """The calls go on: their holds, on all these limits, live a lease from now. Ended ones stay ended."""
        ...

    async def seed(self, limit: Limit, used: int, begins: float) -> None:
        """What was used in the calendar period of ``limit`` that began at ``begins``, in unix time, before this store
        began to count it.

        Only the first seed of a period has an effect, and none that comes after a reservation, or is not of the period
        in which this store is now: its clock may be another than the caller's, and a seed may be late.
        """
        ...

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """How these limits stand, charging nothing. An unseeded one stands at 0."""
        ...

    async def aclose(self) -> None:
        """Bring what is under way to its end, in the running event loop; the backend can be used on."""
        return
