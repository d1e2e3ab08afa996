"""Order is what is declared; where nothing is declared, tier and the given order decide."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewaykit.errors import PluginError
from gatewaykit.ordering import solve

NAMES = "abcde"


@dataclass(frozen=True)
class Item:
    name: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    tier: int = 0


@dataclass(frozen=True)
class Bare:
    name: str


names = st.sampled_from([*NAMES, "not-installed"])
relations = st.lists(names, max_size=2, unique=True).map(tuple)
items_of = st.lists(
    st.builds(Item, st.sampled_from(NAMES), relations, relations, st.integers(-1, 1)),
    max_size=len(NAMES),
    unique_by=lambda item: item.name,
)


def holds(order: tuple[Item, ...]) -> bool:
    place = {item.name: index for index, item in enumerate(order)}
    return all(
        all(place[item.name] > place.get(earlier, -1) for earlier in item.after)
        and all(place[item.name] < place.get(later, len(place)) for later in item.before)
        for item in order
    )


def best(items: list[Item]) -> tuple[Item, ...] | None:
    """By brute force: of all orders that hold, the one whose items come soonest by tier and given place."""
    ranks = {item: (item.tier, place) for place, item in enumerate(items)}
    orders = [order for order in permutations(items) if holds(order)]
    return min(orders, key=lambda order: [ranks[item] for item in order], default=None)


@settings(max_examples=300, deadline=None)
@given(items_of)
def test_the_order_is_the_best_of_all_that_hold(items: list[Item]) -> None:
    """What ``solve`` finds is what trying every permutation finds; it refuses just what no permutation satisfies."""
    wanted = best(items)
    if wanted is None:
        with pytest.raises(PluginError, match="cycle"):
            solve(items)
    else:
        assert solve(items) == wanted


@given(items_of, st.randoms(use_true_random=False))
def test_declared_order_does_not_depend_on_the_given_one(items: list[Item], random: object) -> None:
    """Objects in one chain of relations come in the same order, however they were given."""
    chain = [
        Item(item.name, after=tuple(items[place].name for place in range(index))) for index, item in enumerate(items)
    ]
    shuffled = list(chain)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert solve(shuffled) == tuple(chain)


def test_objects_without_declarations_keep_their_order() -> None:
    """An object need not know of ordering at all."""
    items = [Bare("z"), Bare("a"), Bare("m")]
    assert solve(items) == tuple(items)


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([Item("one", before=("two",)), Item("two", before=("one",)), Item("free")], {"one", "two"}),
        ([Item("one", after=("three",)), Item("two", after=("one",)), Item("three", after=("two",))], None),
        ([Item("self", after=("self",)), Item("free")], {"self"}),
    ],
)
def test_a_cycle_names_its_members_and_no_others(items: list[Item], named: set[str] | None) -> None:
    """The error says which objects declared an order that cannot be."""
    with pytest.raises(PluginError) as raised:
        solve(items)
    assert set(raised.value.plugin.split(", ")) == (named or {item.name for item in items})
    assert "→" in raised.value.message
