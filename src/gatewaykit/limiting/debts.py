"""What was used of calendar periods and is not counted yet in the store where it belongs."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from gatewaykit.limiting.backend import Charge
from gatewaykit.limits import Limit, slicing

_MOST = 10_000


class Debt(Struct):
    """``amount`` of ``limit``, used in its period that began at ``begins``, in unix time."""

    limit: Limit
    begins: int
    amount: int


class Debts:
    """Sums by limit and period. There are 10,000 at most: of more, those that came first are forgotten."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], Debt] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    def owe(self, charges: Iterable[Charge], at: float) -> None:
        """Of ``charges`` that were taken ``at`` then, in unix time, those under calendar limits are owed."""
        for limit, amount in ((charge.limit, charge.amount) for charge in charges):
            if isinstance(limit.span, str) and amount > 0:
                self.put(Debt(limit, slicing(limit.span, at).current, amount))

    def put(self, debt: Debt) -> None:
        """Add ``debt`` to what is owed of the same."""
        known = self._sums.setdefault((debt.limit.key, debt.begins), debt)
        if known is not debt:
            known.amount += debt.amount
        if len(self._sums) > _MOST:
            self.pop()

    def pop(self) -> Debt | None:
        """Take out the one that came first."""
        for key in self._sums:
            return self._sums.pop(key, None)
        return None

    def forgive(self, limits: Iterable[Limit]) -> None:
        """Nothing is owed of these any more."""
        keys = {limit.key for limit in limits}
        for place in self._sums.copy():
            if place[0] in keys:
                self._sums.pop(place, None)
