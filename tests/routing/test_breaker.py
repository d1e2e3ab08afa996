"""The circuit breaker, against a model of it, with time given by the test."""

from __future__ import annotations

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewaykit.attempts.breaker import SLICES, Breaker, BreakerRules

RULES = BreakerRules(window=10.0, calls=4, error_share=0.5, slow=1.0, slow_share=0.75, cooldown=3.0, probes=2)


def opened(breaker: Breaker, now: float = 0.0) -> Breaker:
    for _ in range(RULES.calls):
        breaker.end(now, failed=True)
    return breaker


def test_it_opens_at_the_share_of_errors_and_not_before_enough_calls() -> None:
    """Three failures of three calls say nothing; two of four open it."""
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.end(0.0, failed=True)
    assert breaker.circuit == "closed"
    breaker = Breaker(RULES)
    for failed in (False, False, True, True):
        assert breaker.admits(0.0)
        breaker.end(0.0, failed=failed)
    assert (breaker.circuit, breaker.admits(0.0), breaker.opened) == ("open", False, 1)


def test_it_opens_at_the_share_of_slow_answers() -> None:
    """Answers that come, but too late, open it as well."""
    breaker = Breaker(RULES)
    for seconds in (0.1, 2.0, 2.0, 2.0):
        breaker.end(0.0, failed=False, seconds=seconds)
    assert breaker.circuit == "open"


def test_what_has_left_the_window_does_not_count() -> None:
    """Failures older than the window are forgotten."""
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.end(0.0, failed=True)
    breaker.end(RULES.window + 1.0, failed=True)
    assert breaker.circuit == "closed"
    assert breaker.shares(RULES.window + 1.0) == (1, 1, 0)


def test_after_the_cooldown_one_probe_at_a_time_is_admitted() -> None:
    """The second call waits until the first probe has come to its end; enough good ones close the circuit."""
    breaker = opened(Breaker(RULES))
    assert not breaker.admits(2.9)
    assert breaker.wait(1.0) == 2.0
    assert breaker.admits(3.0)
    assert breaker.begin(3.0)
    assert not breaker.admits(3.1)
    breaker.end(3.2, failed=False, probe=True)
    assert breaker.circuit == "half_open"
    assert breaker.begin(3.3)
    breaker.end(3.4, failed=False, probe=True)
    assert (breaker.circuit, breaker.admits(3.4)) == ("closed", True)


def test_a_probe_that_fails_opens_it_again_for_a_whole_cooldown() -> None:
    """And one that is cancelled says nothing: the next call is the probe."""
    breaker = opened(Breaker(RULES))
    assert breaker.begin(3.0)
    breaker.drop(probe=True)
    assert breaker.admits(3.0)
    assert breaker.begin(3.0)
    breaker.end(3.5, failed=True, probe=True)
    assert (breaker.circuit, breaker.opened, breaker.admits(6.4), breaker.admits(6.5)) == ("open", 2, False, True)


def test_a_probe_of_which_nothing_is_heard_does_not_keep_it_shut() -> None:
    """After another cooldown somebody else is the probe."""
    breaker = opened(Breaker(RULES))
    assert breaker.begin(3.0)
    assert not breaker.admits(5.9)
    assert breaker.admits(6.0)


def test_hope_ends_the_cooldown_and_nothing_else() -> None:
    """The next call is the probe; a circuit that is closed or probed already does not care."""
    breaker = opened(Breaker(RULES))
    breaker.hope(1.0)
    assert (breaker.circuit, breaker.admits(1.0)) == ("open", True)
    assert breaker.begin(1.0)
    breaker.hope(1.1)
    assert not breaker.admits(1.1)


def test_calls_from_before_it_opened_say_nothing() -> None:
    """A call that began when the circuit was closed is no probe, however it ends."""
    breaker = opened(Breaker(RULES))
    assert breaker.begin(3.0)
    breaker.end(3.1, failed=False)
    breaker.end(3.1, failed=True)
    assert breaker.circuit == "half_open"


def test_an_answer_that_breaks_off_counts_as_a_failure() -> None:
    """A target that begins well and never ends well is found out."""
    breaker = Breaker(RULES)
    for _ in range(4):
        breaker.end(0.0, failed=False)
        breaker.broke(0.0)
    assert breaker.circuit == "open"


class Model(RuleBasedStateMachine):
    """A breaker and a list of all that happened: what the list says is what the breaker does."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(RULES)
        self.now = 0.0
        self.circuit = "closed"
        self.seen: deque[tuple[int, bool, bool]] = deque()
        self.until = 0.0
        self.passed = 0
        self.probing = False

    @rule(seconds=st.floats(0, 4))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.circuit == "closed")
    @rule(failed=st.booleans(), slow=st.booleans())
    def call(self, failed: bool, slow: bool) -> None:
        assert not self.breaker.begin(self.now)
        self.breaker.end(self.now, failed=failed, seconds=2.0 if slow else 0.5)
        step = int(self.now / (RULES.window / SLICES))
        self.seen.append((step, failed, slow and not failed))
        while self.seen[0][0] <= step - SLICES:
            self.seen.popleft()
        calls, failures = len(self.seen), sum(entry[1] for entry in self.seen)
        slows = sum(entry[2] for entry in self.seen)
        bad = failures >= calls * RULES.error_share or slows >= calls * RULES.slow_share
        if (failed or slow) and calls >= RULES.calls and bad:
            self.opens()

    @precondition(lambda self: self.circuit != "closed" and self.now >= self.until)
    @rule()
    def probe(self) -> None:
        assert self.breaker.begin(self.now)
        if self.circuit == "open":
            self.passed = 0
        self.circuit, self.until, self.probing = "half_open", self.now + RULES.cooldown, True

    @precondition(lambda self: self.probing and self.circuit == "half_open")
    @rule(good=st.booleans())
    def probe_ends(self, good: bool) -> None:
        self.breaker.end(self.now, failed=not good, probe=True)
        self.probing = False
        if not good:
            self.opens()
            return
        self.passed, self.until = self.passed + 1, 0.0
        if self.passed == RULES.probes:
            self.circuit = "closed"

    @rule(failed=st.booleans())
    @precondition(lambda self: self.circuit != "closed")
    def straggler_ends(self, failed: bool) -> None:
        self.breaker.end(self.now, failed=failed)

    def opens(self) -> None:
        self.circuit, self.until, self.probing = "open", self.now + RULES.cooldown, False
        self.seen.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.circuit == self.circuit
        assert self.breaker.admits(self.now) == (self.circuit == "closed" or self.now >= self.until)


TestModel = Model.TestCase
