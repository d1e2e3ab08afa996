"""The strategies, by their properties: what is a permutation, what is stable, what follows the weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gatewaykit import Call, Message, Target
from gatewaykit.attempts.targets import Latency, Targets
from gatewaykit.builtin.router.orders import constant, in_turn, least_in_flight, least_latency, sticky, weighted
from gatewaykit.builtin.router.sticky import conversation
from gatewaykit.testing import make_call

weights_of = st.lists(st.floats(0.0, 10.0), min_size=1, max_size=8).filter(any)


def places(count: int) -> list[Target]:
    return [Target("p", f"m{number}") for number in range(count)]


def turn(number: int = 0, **fields: Any) -> Call:
    return make_call(f"conversation {number}", **fields)


@given(weights_of, st.randoms())
def test_every_order_has_every_target_once(weights: list[float], random: Any) -> None:
    """Whatever the strategy: nobody is lost, nobody is asked twice."""
    targets, known = places(len(weights)), Targets()
    states = [known[target] for target in targets]
    for state in states:
        state.in_flight = random.randrange(5)
    orders = [
        constant(targets), weighted(targets, weights), sticky(targets, weights), least_latency(targets, states),
        least_in_flight(targets, states, weights),
    ]  # fmt: skip
    for order in [*orders, in_turn(orders[:1])]:
        assert sorted(map(str, order(turn()))) == sorted(map(str, targets))


@given(weights_of)
def test_a_target_without_weight_is_never_first(weights: list[float]) -> None:
    """Weight 0 means: only if all others fail."""
    targets = places(len(weights))
    for order in (weighted(targets, weights), sticky(targets, weights)):
        for number in range(20):
            first = order(turn(number))[0]
            assert weights[targets.index(first)] > 0


def test_first_and_second_follow_the_weights() -> None:
    """Of 20 000 calls each target gets its share, and the second is chosen by weight among the others."""
    targets = places(3)
    order = weighted(targets, [6.0, 3.0, 1.0])
    found = [order(turn()) for _ in range(20_000)]
    first = Counter(each[0].model for each in found)
    assert [first[f"m{number}"] / 20_000 for number in range(3)] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)
    second = Counter(each[1].model for each in found if each[0].model == "m0")
    assert second["m1"] / second.total() == pytest.approx(0.75, abs=0.03)


@given(weights_of, st.integers(0, 50))
def test_sticky_is_the_same_for_the_same_conversation(weights: list[float], number: int) -> None:
    """Later turns of a conversation go where its first went, and other tenants' go by themselves."""
    order = sticky(places(len(weights)), weights)
    first = turn(number)
    later = structs.replace(
        first,
        request=structs.replace(
            first.chat, messages=(*first.chat.messages, Message("assistant", "a"), Message("user", "b"))
        ),
    )
    assert order(first) == order(later)
    assert conversation(first) != conversation(turn(number, tenant="other"))
    assert conversation(turn(1, session="s")) == conversation(turn(2, session="s"))


@given(st.integers(2, 8), st.data())
def test_when_a_target_goes_only_its_own_conversations_move(count: int, data: st.DataObject) -> None:
    """And each goes to the one that was its second before."""
    targets = places(count)
    gone = data.draw(st.integers(0, count - 1))
    before = sticky(targets, [1.0] * count)
    after = sticky([target for position, target in enumerate(targets) if position != gone], [1.0] * (count - 1))
    for number in range(40):
        was, now = before(turn(number)), after(turn(number))
        assert now[0] == (was[1] if was[0] == targets[gone] else was[0])


def test_sticky_conversations_are_spread_by_weight() -> None:
    """Roughly: the ring has 64 points for each unit."""
    order = sticky(places(2), [3.0, 1.0])
    first = Counter(order(turn(number))[0].model for number in range(4000))
    assert first["m0"] / 4000 == pytest.approx(0.75, abs=0.1)


def test_the_quickest_goes_first_and_the_second_quickest_next() -> None:
    """Streams and answers in one piece are compared with their like, and calls in flight count."""
    targets, known = places(3), Targets()
    states = [known[target] for target in targets]
    order = least_latency(targets, states)
    import time

    now = time.monotonic()
    for state, streamed, whole in zip(states, (0.3, 0.1, 0.2), (1.0, 3.0, 2.0), strict=True):
        state.first_event.add(streamed, now)
        state.whole.add(whole, now)
    assert [target.model for target in order(turn())] == ["m1", "m2", "m0"]
    assert [target.model for target in order(turn(stream=False))] == ["m0", "m2", "m1"]
    states[1].in_flight = 9
    assert order(turn())[0].model == "m2"


def test_the_least_busy_goes_first_for_its_weight() -> None:
    """Twice the weight takes twice the calls."""
    targets, known = places(2), Targets()
    states = [known[target] for target in targets]
    order = least_in_flight(targets, states, [2.0, 1.0])
    given_: Counter[str] = Counter()
    for _ in range(300):
        chosen = order(turn())[0]
        known[chosen].in_flight += 1
        given_[chosen.model] += 1
    assert given_["m0"] / 300 == pytest.approx(2 / 3, abs=0.02)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60)), min_size=1, max_size=30))
def test_a_latency_is_never_above_its_worst_and_fades(course: list[tuple[float, float]]) -> None:
    """A peak is believed at once; what is long ago says less and less."""
    latency, now = Latency(), 0.0
    for seconds, passed in course:
        now += passed
        latency.add(seconds, now)
        assert seconds - 1e-9 <= latency.expected(now) <= max(each for each, _ in course) + 1e-9
    assert latency.expected(now + 1000) < 1e-9


def test_an_answer_that_did_not_come_is_no_sample() -> None:
    """It is as bad a moment as it was long; the share of answers that come in time is that of answers."""
    latency = Latency()
    latency.quantile(0.9)
    for number in range(40):
        latency.add(1.0, float(number))
        latency.missed(60.0, float(number))
    assert latency.expected(39.0) == 60.0
    assert latency.quantile(0.9) == 1.0


def test_quantiles_need_samples() -> None:
    """None until enough answers were seen since the first question; then the share of them that was in time."""
    latency = Latency()
    assert latency.quantile(0.9) is None
    for number in range(100):
        latency.add(float(number), float(number))
    assert latency.quantile(0.9) == 90.0
    assert latency.quantile(0.5) == 50.0
