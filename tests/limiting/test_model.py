"""Every store that counts, compared with a list of what was taken, whatever is done to it."""

from __future__ import annotations

import asyncio
import itertools
import math
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from gatewaykit.limiting import Backend, Charges, Standing, Standings
from gatewaykit.limits import Limit

from .conftest import LEASE, MIDDAY, Clock, Opener, new_subject, seed

EXAMPLES = {"memory": 150, "redis": 25, "valkey": 25, "sqlite": 25, "postgres": 12}
KINDS: list[dict[str, Any]] = [
    {"unit": "requests", "span": 60},
    {"unit": "tokens", "span": 60},
    {"unit": "tokens", "span": 600},
    {"unit": "concurrency", "span": 0},
    {"unit": "requests", "span": "day"},
    {"unit": "money", "span": "month"},
    {"unit": "money", "span": "total"},
]
PLACES = st.integers(0, len(KINDS) - 1)
MONTH_ENDS = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
STEPS = st.sampled_from([0.25, 1, 5, 5, 30, 30, LEASE - 0.25, 0.25, LEASE, LEASE, 65, 600, 86_400])
MOSTLY = st.sampled_from([True, True, True, False])


@dataclass
class Taken:
    """One charge: when it was taken, and the hold under which it still is."""

    time: float
    amount: int
    hold: str | None
    expires: float


class Model:
    """What was taken of one limit; all questions are answered from the whole list."""

    def __init__(self, kind: dict[str, Any]) -> None:
        self.unit, self.span = kind["unit"], kind["span"]
        self.taken: list[Taken] = []
        self.seeds: set[Any] = set()

    def calendar(self, time: float) -> tuple[int, ...]:
        """The period in which ``time`` is."""
        day = datetime.fromtimestamp(time, UTC)
        return {"day": (day.year, day.month, day.day), "month": (day.year, day.month), "total": ()}[self.span]

    def counts(self, one: Taken, now: float) -> bool:
        """Whether a charge counts."""
        if one.hold is not None and one.expires <= now:
            return False
        if self.unit == "concurrency":
            return one.hold is not None
        if isinstance(self.span, str):
            return self.calendar(one.time) == self.calendar(now)
        return bool(now // (self.span / 12) - one.time // (self.span / 12) <= 12)

    def used(self, now: float) -> int:
        """What counts, all together."""
        return sum(one.amount for one in self.taken if self.counts(one, now))

    def unseeded(self, now: float) -> bool:
        """Whether the period has no seed."""
        return isinstance(self.span, str) and self.calendar(now) not in self.seeds

    def settle(self, hold: str, amount: int, now: float) -> None:
        """Count the real amount of what is held."""
        for one in self.taken:
            if one.hold == hold and self.counts(one, now):
                one.amount, one.hold = (0 if self.unit == "concurrency" else amount), None


class Comparison(RuleBasedStateMachine):
    """A store and its model, side by side."""

    opener: ClassVar[Opener]

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.models = [Model(kind) for kind in KINDS]
        self.subject = new_subject()
        self.amounts = [8] * len(KINDS)
        self.plans: dict[tuple[tuple[int, int], ...], tuple[Limit, ...]] = {}
        self.numbers = itertools.count()
        self.calls: list[tuple[str, list[int]]] = []
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.backend: Backend = self.runner.run(
            self.stack.enter_async_context(type(self).opener(self.clock, LEASE)),
        )

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def limit(self, place: int) -> Limit:
        return Limit(self.subject, amount=self.amounts[place], **KINDS[place])

    def charges(self, amounts: dict[int, int]) -> Charges:
        """What is charged at these places. The same limits are the same tuple each time, as they are of one plan."""
        plan = tuple((place, self.amounts[place]) for place in amounts)
        limits = self.plans.setdefault(plan, tuple(self.limit(place) for place in amounts))
        return Charges(limits, list(amounts.values()))

    def compare(self, place: int, standing: Standing, asked: int = 0) -> None:
        """The store tells what the model does, and what it promises comes true in the model."""
        model, now = self.models[place], self.clock.now
        assert standing.limit == self.limit(place)
        assert standing.used == model.used(now)
        fits = standing.used + asked <= self.amounts[place]
        assert fits == (standing.room_in == 0)
        if model.unit != "concurrency":
            assert (standing.resets > 0) == (standing.used > 0)
            if standing.resets < math.inf:
                assert model.used(now + standing.resets) == 0
            if standing.room_in < math.inf:
                assert model.used(now + standing.room_in) + asked <= self.amounts[place]

    @initialize(start=st.sampled_from([MIDDAY, MONTH_ENDS - 3, MONTH_ENDS - 86_400 - 3]), seeds=MOSTLY)
    def begin(self, start: float, seeds: bool) -> None:
        self.clock.now = start
        if seeds:
            self.seed_all()

    @rule(charges=st.dictionaries(PLACES, st.sampled_from([1, 1, 2, 0, 3, 9]), min_size=1, max_size=4))
    def reserve(self, charges: dict[int, int]) -> None:
        hold, now = f"{self.subject}-{next(self.numbers)}", self.clock.now
        decision = self.runner.run(self.backend.reserve(hold, self.charges(charges)))
        models = [self.models[place] for place in charges]
        fits = [self.models[place].used(now) + amount <= self.amounts[place] for place, amount in charges.items()]
        assert decision.refused == tuple(position for position, does in enumerate(fits) if not does)
        assert decision.unseeded == tuple(n for n, model in enumerate(models) if model.unseeded(now))
        if decision.taken:
            for model, amount in zip(models, charges.values(), strict=True):
                held = hold if model.unit != "requests" else None
                model.taken.append(Taken(now, amount, held, now + LEASE))
        self.calls.append((hold, [place for place in charges if self.models[place].unit != "requests"]))
        for standing, (place, amount) in zip(decision.standings, charges.items(), strict=True):
            self.compare(place, standing, 0 if decision.taken else amount)
        if isinstance(decision.standings, Standings):
            used, resets = decision.standings.figures(len(charges))
            assert list(used) == [standing.used for standing in decision.standings]
            for standing, seconds in zip(decision.standings, resets, strict=True):
                assert standing.resets <= seconds <= standing.resets + 1

    @rule(data=st.data(), back=st.integers(1, 4), amount=st.sampled_from([0, 1, 2, 7]))
    def settle(self, data: st.DataObject, back: int, amount: int) -> None:
        if len(self.calls) < back:
            return
        hold, places = self.calls[-back]
        self.runner.run(self.backend.settle(hold, self.charges(dict.fromkeys(places, amount))))
        for place in places:
            self.models[place].settle(hold, amount, self.clock.now)

    @rule(last=st.integers(2, 6))
    def renew(self, last: int) -> None:
        now, holds = self.clock.now, dict(self.calls[-last:])
        self.runner.run(
            self.backend.renew({hold: [self.limit(place) for place in places] for hold, places in holds.items()})
        )
        for place, model in enumerate(self.models):
            for one in model.taken:
                if one.hold in holds and place in holds[one.hold] and one.expires > now:
                    one.expires = now + LEASE

    @rule(place=PLACES, amount=st.sampled_from([0, 1, 4]))
    def seed(self, place: int, amount: int) -> None:
        model, now = self.models[place], self.clock.now
        self.runner.run(seed(self.backend, self.limit(place), amount, now))
        if model.unseeded(now):
            model.seeds.add(model.calendar(now))
            model.taken.append(Taken(now, amount, None, math.inf))

    def seed_all(self) -> None:
        for place, model in enumerate(self.models):
            if model.unseeded(self.clock.now):
                self.seed(place, 0)

    @rule(seconds=STEPS, seeds=MOSTLY)
    def wait(self, seconds: float, seeds: bool) -> None:
        self.clock.advance(seconds)
        if seeds:
            self.seed_all()

    @rule(place=PLACES, amount=st.sampled_from([8, 12, 3, 0]))
    def change(self, place: int, amount: int) -> None:
        self.amounts[place] = amount

    @rule()
    def look(self) -> None:
        limits = [self.limit(place) for place in range(len(KINDS))]
        for place, standing in enumerate(self.runner.run(self.backend.standings(limits))):
            self.compare(place, standing)


def test_a_store_counts_as_its_model_does(backend_name: str, open_backend: Opener) -> None:
    """Whatever is reserved, settled, renewed, seeded and waited for, in any order, store and model agree."""
    machine = type("Machine", (Comparison,), {"opener": staticmethod(open_backend)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES[backend_name],
            stateful_step_count=40,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
