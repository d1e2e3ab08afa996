"""The fair queue against its promises, with nothing around it."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewaykit_gigachat.pool.queue import FairQueue, Full

KEYS = ("a", "b", "c", "d")
WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.5}
LONGEST, LONGEST_LINE = 12, 5


class QueueModel(RuleBasedStateMachine):
    """Puts, takes and leaves in any order; beside the queue stand plain lists, one for each key."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[tuple[str, int]] = FairQueue(LONGEST, LONGEST_LINE)
        self.lines: dict[str, deque[tuple[str, int]]] = {key: deque() for key in KEYS}
        self.served: Counter[str] = Counter()
        self.since: dict[tuple[str, str], tuple[int, int]] = {}
        self.numbers = 0
        self.catching_up = False

    @property
    def length(self) -> int:
        return sum(map(len, self.lines.values()))

    @rule(key=st.sampled_from(KEYS))
    def put(self, key: str) -> None:
        """There is room exactly up to the two bounds; the position is within the queue."""
        self.numbers += 1
        item = (key, self.numbers)
        if self.length >= LONGEST or len(self.lines[key]) >= LONGEST_LINE:
            with pytest.raises(Full):
                self.queue.put(key, WEIGHTS[key], item)
            return
        position = self.queue.put(key, WEIGHTS[key], item)
        self.lines[key].append(item)
        assert len(self.lines[key]) <= position <= self.length
        self._begin_pairs(key)

    @precondition(lambda self: self.length)
    @rule(blocked=st.sets(st.sampled_from(KEYS)))
    def take(self, blocked: set[str]) -> None:
        """What comes is the head of a line that fits; nothing comes only if no head fits."""
        fits = [key for key, line in self.lines.items() if line and key not in blocked]
        assert self.queue.wants(lambda item: item[0] not in blocked) is bool(fits)
        item = self.queue.take(lambda item: item[0] not in blocked)
        if not fits:
            assert item is None
            return
        assert item is not None
        assert item[0] in fits
        assert item == self.lines[item[0]].popleft()
        self.served[item[0]] += 1
        if blocked & {key for key, line in self.lines.items() if line}:
            self.catching_up = True
        self._forget_pairs({item[0]} if not self.lines[item[0]] else set())

    @precondition(lambda self: self.length)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Whoever leaves is gone, once, and the others keep their order."""
        item = data.draw(st.sampled_from([item for line in self.lines.values() for item in line]))
        assert self.queue.remove(item[0], item)
        assert not self.queue.remove(item[0], item)
        self.lines[item[0]].remove(item)
        self._forget_pairs({item[0]} if not self.lines[item[0]] else set())

    @invariant()
    def nothing_is_lost(self) -> None:
        """The queue holds what the lists hold."""
        assert len(self.queue) == self.length
        assert sorted(self.queue) == sorted(item for line in self.lines.values() for item in line)

    @invariant()
    def shares_are_fair(self) -> None:
        """While two keys both wait, what they are served differs by no more than one call of each, weighed; unless one
        of them was held up, and catches up.
        """
        self.catching_up = self.catching_up and self.length > 0
        if self.catching_up:
            self.since.clear()
        for (one, other), (first, second) in self.since.items():
            gained = (self.served[one] - first) / WEIGHTS[one] - (self.served[other] - second) / WEIGHTS[other]
            assert abs(gained) <= 1 / WEIGHTS[one] + 1 / WEIGHTS[other] + 1e-6

    def _begin_pairs(self, key: str) -> None:
        for other in KEYS:
            if other != key and self.lines[other]:
                pair = (min(key, other), max(key, other))
                self.since.setdefault(pair, (self.served[pair[0]], self.served[pair[1]]))

    def _forget_pairs(self, keys: set[str]) -> None:
        self.since = {pair: begun for pair, begun in self.since.items() if not keys & set(pair)}
        waiting = [key for key in KEYS if self.lines[key]]
        for key in waiting:
            self._begin_pairs(key)


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4), min_size=2))
@settings(max_examples=40)
def test_shares_follow_the_weights(weights: dict[str, int]) -> None:
    """Keys that always have calls waiting are served in proportion to their weights, to one call."""
    queue: FairQueue[str] = FairQueue(1000, 1000)
    for key, weight in weights.items():
        for _ in range(80):
            queue.put(key, weight, key)
    served: Counter[str] = Counter()
    for _ in range(80):
        item = queue.take(lambda _: True)
        assert item is not None
        served[item] += 1
    shares = [served[key] / weight for key, weight in weights.items()]
    assert max(shares) - min(shares) <= 1


def test_a_key_that_comes_late_waits_for_its_turn_only() -> None:
    """One call behind a hundred of another key is served second, and its position says so."""
    queue: FairQueue[str] = FairQueue(1000, 1000)
    for number in range(100):
        queue.put("many", 1, f"many-{number}")
    assert queue.take(lambda _: True) == "many-0"
    assert queue.put("one", 1, "one") == 1
    assert queue.take(lambda _: True) == "one"


def test_keys_that_are_gone_are_forgotten() -> None:
    """A queue that never runs empty does not remember all keys that it has ever served."""
    queue: FairQueue[int] = FairQueue(10, 10)
    queue.put("stays", 1, -1)
    for number in range(2000):
        queue.put(f"key-{number}", 1, number)
        assert queue.take(lambda item: item != -1) == number
    assert len(vars(queue)["_lines"]) < 600
