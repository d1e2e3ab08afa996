"""Observers see every record, in order, on a thread of their own; nothing that they do reaches a request."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from gatewaykit import CallRecord, Observer
from gatewaykit.observing import ObserverQueue


def record(number: int) -> CallRecord:
    return CallRecord(str(number), 0.0, "GET", "/", "openai_chat", 200, "done", 0.0)


class Seen(Observer):
    name = "seen"

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.threads: set[str] = set()
        self.flushed_after: list[int] = []

    def record(self, record: CallRecord) -> None:
        self.ids.append(record.request_id)
        self.threads.add(threading.current_thread().name)

    def flush(self) -> None:
        self.flushed_after.append(len(self.ids))


class Held(Seen):
    """Waits, once it has begun, until it is let go."""

    name = "held"

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.let_go = threading.Event()

    def record(self, record: CallRecord) -> None:
        self.began.set()
        assert self.let_go.wait(10)
        super().record(record)


class Failing(Seen):
    name = "failing"

    def record(self, record: CallRecord) -> None:
        super().record(record)
        raise RuntimeError("broken")

    def flush(self) -> None:
        raise RuntimeError("broken too")


def observer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gatewaykit-observers"]


def wait_for_end_of(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_every_observer_sees_every_record_in_order_and_is_flushed() -> None:
    """What was recorded before the stop is handed out before it returns, on another thread, with a flush behind it."""
    one, two = Seen(), Seen()
    queue = ObserverQueue([one, two], pause=0.001)
    queue.start()
    for number in range(500):
        queue.record(record(number))
    queue.stop()
    assert one.ids == two.ids == [str(number) for number in range(500)]
    assert one.threads == {"gatewaykit-observers"}
    assert one.flushed_after[-1] == 500
    assert queue.dropped == 0


def test_an_observer_that_raises_harms_neither_the_others_nor_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is logged with the observer's name; the next record is offered again."""
    failing, seen = Failing(), Seen()
    queue = ObserverQueue([failing, seen], pause=0.001)
    with caplog.at_level(logging.ERROR):
        queue.start()
        queue.record(record(1))
        queue.record(record(2))
        queue.stop()
    assert failing.ids == seen.ids == ["1", "2"]
    assert "observer failing failed: RuntimeError" in caplog.text


def test_a_slow_observer_costs_old_records_and_never_the_caller() -> None:
    """The queue is bounded: while an observer hangs, recording goes on and the oldest are dropped and counted."""
    held = Held()
    queue = ObserverQueue([held], capacity=10, pause=0.001)
    queue.start()
    queue.record(record(-1))
    assert held.began.wait(10)
    began = time.monotonic()
    for number in range(100):
        queue.record(record(number))
    assert time.monotonic() - began < 1
    assert queue.dropped == 90
    held.let_go.set()
    queue.stop()
    assert held.ids == ["-1", *(str(number) for number in range(90, 100))]


def test_an_observer_that_hangs_delays_the_stop_only_so_long(caplog: pytest.LogCaptureFixture) -> None:
    """The stop gives up after its time and says what is lost; when the observer wakes, its thread ends."""
    held = Held()
    queue = ObserverQueue([held], pause=0.001)
    queue.start()
    queue.record(record(1))
    assert held.began.wait(10)
    threads = observer_threads()
    queue.record(record(2))
    with caplog.at_level(logging.ERROR):
        queue.stop(timeout=0.01)
    assert "1 records are lost" in caplog.text
    queue.start()
    held.let_go.set()
    wait_for_end_of(threads)
    queue.stop()


def test_the_queue_runs_until_its_last_user_stops() -> None:
    """Several event loops share a gateway: the first that stops does not silence the others."""
    seen = Seen()
    queue = ObserverQueue([seen], pause=0.001)
    queue.start()
    queue.start()
    (thread,) = observer_threads()
    queue.stop()
    queue.record(record(1))
    assert thread.is_alive()
    queue.stop()
    assert seen.ids == ["1"]
    wait_for_end_of([thread])


def test_the_queue_can_be_started_again() -> None:
    """What is recorded between two runs is handed out in the second."""
    seen = Seen()
    queue = ObserverQueue([seen], pause=0.001)
    for number in range(3):
        queue.start()
        queue.stop()
        queue.record(record(number))
    queue.start()
    queue.stop()
    assert seen.ids == ["0", "1", "2"]


def test_starts_and_stops_from_many_threads_lose_nothing() -> None:
    """Whatever the order in which loops come and go, each record is seen once and no thread is left."""
    seen = Seen()
    queue = ObserverQueue([seen], pause=0.001)

    def come_and_go(number: int) -> None:
        for turn in range(10):
            queue.start()
            queue.record(record(number * 10 + turn))
            queue.stop()

    workers = [threading.Thread(target=come_and_go, args=(number,)) for number in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert sorted(map(int, seen.ids)) == list(range(50))
    assert not observer_threads()


def test_without_observers_nothing_is_kept_and_nothing_runs() -> None:
    """A gateway that nobody observes has no thread and no records."""
    queue = ObserverQueue([], capacity=1)
    queue.start()
    for number in range(3):
        queue.record(record(number))
    assert queue.dropped == 0
    assert not observer_threads()
    queue.stop()
