"""Sums of several processes: complete, never falling, and not to be broken by whoever dies or talks nonsense."""

from __future__ import annotations

import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.metrics import Metric
from gatewaykit.metrics.totals import Report, Row, Totals
from gatewaykit.tallying import SharedTally, TallyHub
from gatewaykit.tallying.line import DONE, READ, REPORT

HITS = Metric("test.hits", "counter", "{hit}", "Hits.", ("who",))
TIMES = Metric("test.times", "histogram", "s", "Times.", bounds=(1.0, 2.0))
DEPTH = Metric("test.depth", "updown", "{item}", "Depth.")
AGE = Metric("test.age", "gauge", "s", "Age.", merge="max")
LEFT = Metric("test.left", "gauge", "s", "Left.", merge="min")
METRICS = [HITS, TIMES, DEPTH, AGE, LEFT]

numbers = st.integers(0, 1000).map(float)
who = st.sampled_from(["a", "b"]).map(lambda name: (("who", name),))
rows = st.one_of(
    st.tuples(st.just(HITS.name), who, st.lists(numbers, min_size=1, max_size=1)),
    st.tuples(st.just(TIMES.name), st.just(()), st.lists(numbers, min_size=4, max_size=4)),
)
reports = st.builds(Report, st.just(METRICS), st.lists(rows, max_size=5))


def counts(totals: Totals) -> dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]:
    """The sums by series."""
    return {(name, labels): numbers for name, labels, numbers in totals.report().counts}


def merged(*all_reports: Report) -> Totals:
    totals = Totals()
    for number, report in enumerate(all_reports):
        totals.add(report, number)
    return totals


@given(st.lists(reports, max_size=8), st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_the_order_of_reports(given_reports: list[Report], random: st.DrawFn) -> None:
    """Whoever reports first, the sums are the same, and each is the sum of all that was reported."""
    shuffled = list(given_reports)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert counts(merged(*given_reports)) == counts(merged(*shuffled))
    expected = sum(row[2][0] for report in given_reports for row in report.counts if row[0] == HITS.name)
    assert sum(value[0] for (name, _), value in counts(merged(*given_reports)).items() if name == HITS.name) == expected


@given(st.lists(reports, min_size=1, max_size=8), st.data())
def test_no_sum_falls_when_a_source_is_forgotten(given_reports: list[Report], data: st.DataObject) -> None:
    """What a worker counted stays when it is gone."""
    totals = merged(*given_reports)
    before = counts(totals)
    totals.forget(data.draw(st.integers(0, len(given_reports) - 1)))
    assert counts(totals) == before


def test_gauges_are_merged_as_they_say_and_end_with_their_source() -> None:
    """A sum, the largest, the smallest; of those that live."""

    def gauges(value: float) -> Report:
        return Report(METRICS, [], [(metric.name, (), [value]) for metric in (DEPTH, AGE, LEFT)])

    totals = merged(gauges(2), gauges(5))
    assert {name: numbers for name, _, numbers in totals.report().gauges} == {
        DEPTH.name: [7],
        AGE.name: [5],
        LEFT.name: [2],
    }
    totals.forget(1)
    assert {name: numbers for name, _, numbers in totals.report().gauges} == {
        DEPTH.name: [2],
        AGE.name: [2],
        LEFT.name: [2],
    }


def test_there_is_room_for_so_many_series_and_no_more() -> None:
    """What would be one series too many is counted as lost."""
    totals = Totals(most=2)
    totals.add(Report([HITS], [(HITS.name, (("who", str(number)),), [1.0]) for number in range(5)]))
    assert (len(counts(totals)), totals.lost) == (2, 3)


class Parent:
    """A hub whose selector runs in a thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ear, self._bell = socket.socketpair()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self.hub = TallyHub(self._selector)
        self._ended = False
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def totals(self) -> Totals:
        """The sums at this moment."""
        with self._turn:
            return merged(self.hub.totals.report())

    def open(self) -> socket.socket:
        return self.hub.open()

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            ready = self._selector.select(self.hub.timeout)
            with self._turn:
                for key, _ in ready:
                    if key.data is not None:
                        key.data(key)
                self.hub.tick()

    def end(self) -> None:
        self._ended = True
        self._bell.send(b"x")
        self._thread.join(10)
        self.hub.close_inherited()
        self._selector.close()
        self._ear.close()
        self._bell.close()


@contextmanager
def parent_of(count: int) -> Iterator[tuple[Parent, list[socket.socket]]]:
    parent = Parent()
    ends = [parent.open() for _ in range(count)]
    parent.start()
    try:
        yield parent, ends
    finally:
        parent.end()
        for end in ends:
            end.close()


def until(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def message(rows: list[Row]) -> bytes:
    """A report as a worker sends it."""
    payload = msgspec.msgpack.encode(Report([HITS], rows))
    return len(payload).to_bytes(4, "big") + bytes([REPORT]) + payload


HIT: list[Row] = [(HITS.name, (("who", "a"),), [1.0])]


class Source:
    """Something that counts."""

    def __init__(self) -> None:
        self.waiting = 0

    def report(self) -> Report:
        waiting, self.waiting = self.waiting, 0
        return Report([HITS, DEPTH], [(HITS.name, (), [float(waiting)])], [(DEPTH.name, (), [1.0])])


def workers(parent: Parent) -> float:
    """How many have reported."""
    return sum(numbers[0] for metric, rows in parent.totals.families() if metric == DEPTH for _, numbers in rows)


def hits(totals: Totals) -> float:
    return sum(numbers[0] for metric, rows in totals.families() if metric == HITS for _, numbers in rows)


@contextmanager
def reporting(parent: Parent, end: socket.socket) -> Iterator[tuple[Source, SharedTally]]:
    """A worker that reports to ``parent``, which has heard of it."""
    source, tally = Source(), SharedTally()
    tally.join(end)
    tally.contribute(source.report)
    before = workers(parent)
    tally.start()
    try:
        until(lambda: workers(parent) > before)
        yield source, tally
    finally:
        tally.stop()


async def test_whoever_reads_sees_what_all_have_counted_until_now() -> None:
    """A reading by one worker has the news of all others in it, though none of them had reported yet."""
    with parent_of(3) as (parent, ends), ExitStack() as stack:
        joined = [stack.enter_context(reporting(parent, end)) for end in ends]
        for number in range(1, 6):
            for source, _ in joined:
                source.waiting += 1
            assert hits(await joined[number % 3][1].read()) == 3 * number


async def test_what_is_new_at_the_end_is_reported() -> None:
    """A worker that stops in peace takes nothing with it."""
    with parent_of(1) as (parent, (end,)):
        with reporting(parent, end) as (source, _):
            source.waiting = 7
        until(lambda: hits(parent.totals) == 7)


def test_a_worker_whose_connection_is_closed_stops_reporting(caplog: pytest.LogCaptureFixture) -> None:
    """It neither tries for ever nor complains."""
    with parent_of(1) as (parent, (end,)), reporting(parent, end):
        end.close()
        until(lambda: "gatewaykit-tally" not in [thread.name for thread in threading.enumerate()])
        assert not caplog.records


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 40, -1])
def test_a_message_that_broke_off_is_not_counted_and_harms_nobody(cut: int) -> None:
    """A worker that is killed in the middle of a message loses that message alone; the others go on."""
    with parent_of(2) as (parent, (killed, other)):
        killed.sendall(message(HIT) + message(HIT)[:cut])
        killed.close()
        other.sendall(message(HIT))
        until(lambda: sum(value[0] for value in counts(parent.totals).values()) == 2)
        other.sendall(message(HIT))
        until(lambda: sum(value[0] for value in counts(parent.totals).values()) == 3)


def test_a_worker_that_dies_while_another_reads_takes_nothing_with_it() -> None:
    """What it said last and its end may come in the same turn as the question that it cannot answer any more: that is
    counted, and harms neither the parent nor who asked.
    """
    with selectors.DefaultSelector() as selector:
        hub = TallyHub(selector)
        asking, dying = hub.open(), hub.open()
        asking.sendall(message(HIT) + b"\x00\x00\x00\x00" + bytes([READ]))
        dying.sendall(message(HIT))
        for key, _ in selector.select():
            key.data(key)
        dying.sendall(message(HIT))
        dying.close()
        asking.sendall(b"\x00\x00\x00\x00" + bytes([DONE]) + b"\x00\x00\x00\x00" + bytes([READ]))
        hub.tick()
        for key, _ in sorted(selector.select(), key=lambda ready: ready[0].fd):
            key.data(key)
            hub.tick()
        assert sum(value[0] for value in counts(hub.totals).values()) == 3
        assert asking.recv(4096)
        hub.close_inherited()
        asking.close()


def test_a_reading_waits_for_what_another_one_has_in_hand() -> None:
    """In one process, who reads while the thread of the tally counts sees what that thread has taken already."""
    waiting, tally = deque[float](), SharedTally()

    def report() -> Report:
        return Report([HITS], [(HITS.name, (), [waiting.popleft() if waiting else 0.0])])

    tally.contribute(report)
    ended = threading.Event()

    def count() -> None:
        while not ended.is_set():
            tally._collect()

    counting = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    counting.start()
    try:
        for number in range(1, 5001):
            waiting.append(1.0)
            assert hits(tally._read()) == number
    finally:
        ended.set()
        counting.join()
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("nonsense", [b"\xff" * 64, b"\x00\x00\x00\x03\x00abc", (2**31).to_bytes(4, "big") + b"\x00"])
def test_nonsense_ends_one_connection(nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Who does not keep to the protocol is not listened to any longer; the others are."""
    with parent_of(2) as (parent, (mad, other)):
        mad.sendall(nonsense)
        assert mad.recv(16) == b""
        other.sendall(message(HIT))
        until(lambda: counts(parent.totals))


async def test_a_worker_that_is_stuck_does_not_hold_up_the_others() -> None:
    """One that does not answer is waited for a moment; what it has reported before is in the sums."""
    with parent_of(2) as (parent, (stuck, end)):
        stuck.sendall(message(HIT))
        with reporting(parent, end) as (_, tally):
            assert hits(await tally.read()) == 1
