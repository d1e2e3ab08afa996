"""The budget of further tries, with time given by the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.attempts.retries import SPAN, RetryBudget, RetryRules


class Clock:
    """Time that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.floats(0, 2))))
def test_never_more_than_the_share_and_the_reserve(course: list[tuple[int, int, float]]) -> None:
    """Whatever comes in whatever order, tries taken are at most the share of calls and what the reserve gave."""
    clock = Clock()
    budget = RetryBudget(0.2, 3, clock)
    calls = 0
    for came, asked, passed in course:
        for _ in range(came):
            budget.call()
        calls += came
        for _ in range(asked):
            budget.take()
        clock.now += passed
        assert budget.taken <= 0.2 * calls + 3 + 3 * clock.now / SPAN + 1e-6


def test_it_comes_back_with_traffic_and_with_time() -> None:
    """Five calls are worth one further try at a share of 0.2; so is a tenth of ten seconds at a reserve of 10."""
    clock = Clock()
    budget = RetryBudget(0.2, 10, clock)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(6):
        budget.call()
    assert (budget.take(), budget.take()) == (True, False)
    clock.now += 1.0
    assert budget.take()
    assert (budget.taken, budget.refused) == (12, 2)


def test_a_quiet_night_saves_nothing_up() -> None:
    """However long nobody came, ten seconds have what the reserve gives in ten seconds."""
    clock = Clock()
    budget = RetryBudget(0.2, 3, clock)
    clock.now = 36_000.0
    assert [budget.take() for _ in range(5)] == [True] * 3 + [False] * 2


def test_clients_that_try_again_use_it_up() -> None:
    """A call that its SDK tries for the second time takes what five first ones give."""
    clock = Clock()
    budget = RetryBudget(0.0, 1, clock)
    clock.now = 600.0
    budget.call("0")
    budget.call("1")
    assert not budget.take()
    clock.now += SPAN
    assert budget.take()


@given(st.integers(0, 30), st.one_of(st.none(), st.floats(0, 100)))
def test_a_pause_is_never_shorter_than_asked_nor_longer_than_allowed(number: int, asked: float | None) -> None:
    """Full jitter without a wish of the provider; with one, that and at most the back-off on top, or no try at all."""
    rules = RetryRules(3, 0.25, 10.0)
    pause = rules.pause(number, asked)
    if asked is None:
        assert pause is not None
        assert 0 <= pause <= min(10.0, 0.25 * 2**number)
    elif asked > 10.0:
        assert pause is None
    else:
        assert pause is not None
        assert asked <= pause <= asked + 0.25


def test_pauses_differ() -> None:
    """Callers that failed together do not come back together."""
    rules = RetryRules(3, 1.0, 10.0)
    assert len({rules.pause(2, None) for _ in range(20)}) > 15
    assert max(rules.pause(3, None) or 0 for _ in range(200)) == pytest.approx(8.0, rel=0.5)
