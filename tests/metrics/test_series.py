"""Counting between reports: nothing is lost, nothing is counted twice, and no label makes series without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewaykit.builtin.metrics.series import ReadingBook, SeriesBook
from gatewaykit.metrics import Distribution, Metric, Reading
from gatewaykit.metrics.totals import Totals

HITS = Metric("test.hits", "counter", "{hit}", "Hits.", ("who", "where"))
TIMES = Metric("test.times", "histogram", "s", "Times.", ("who",), bounds=(1.0, 2.0, 5.0))
whole = st.integers(0, 10**6).map(float)


def summed(totals: Totals, metric: Metric) -> dict[tuple[tuple[str, str], ...], list[float]]:
    """The sums of one metric by labels."""
    return {labels: numbers for name, labels, numbers in totals.report().counts if name == metric.name}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(whole | st.sampled_from(TIMES.bounds)), st.booleans())))
def test_reports_add_up_to_what_was_counted(steps: list[tuple[str, list[float], bool]]) -> None:
    """However often somebody asks in between, the sums are those of all that was counted."""
    book, totals = SeriesBook(100), Totals()
    for who, numbers, ask in steps:
        for number in numbers:
            book.add(HITS, (who, ""), number)
        book.record(TIMES, (who,), numbers)
        if ask:
            totals.add(book.take())
    totals.add(book.take())
    for who in {who for who, numbers, _ in steps if numbers}:
        amounts = [number for name, numbers, _ in steps if name == who for number in numbers]
        assert summed(totals, HITS)[("who", who),] == [sum(amounts)]
        *counts, total = summed(totals, TIMES)[("who", who),]
        below = [sum(amount <= bound for amount in amounts) for bound in TIMES.bounds]
        assert [sum(counts[: number + 1]) for number in range(3)] == below
        assert (sum(counts), total) == (len(amounts), sum(amounts))


@given(st.lists(st.text(min_size=1, max_size=3), max_size=60), st.integers(1, 5))
def test_one_metric_has_so_many_series_and_one_for_the_rest(names: list[str], most: int) -> None:
    """Values of labels beyond the limit are counted together, under `other`, and nothing is lost."""
    book, totals = SeriesBook(most), Totals()
    for name in names:
        book.add(HITS, (name, "here"))
        totals.add(book.take())
    series = summed(totals, HITS)
    assert len(series) <= most + 1
    assert sum(numbers[0] for numbers in series.values()) == len(names)
    told = {pair for labels in series for pair in labels}
    assert book.folded == 0 or len(series) == most + 1 or ("who", "other") in told


@given(st.lists(st.one_of(whole, st.none()), min_size=1))
def test_readings_of_a_counter_add_up_over_new_beginnings(steps: list[float | None]) -> None:
    """A counter grows by the steps given, and begins anew where there is none: its sum never falls."""
    book, totals, value, expected, before = ReadingBook(10), Totals(), 0.0, 0.0, 0.0
    for step in steps:
        value = 0.0 if step is None else value + step
        expected += step or 0.0
        totals.add(book.report([Reading(HITS, value, {"who": "a"})]))
        ((now,),) = summed(totals, HITS).values()
        assert now >= before
        before = now
    assert before == expected


def test_readings_of_a_distribution_are_told_once() -> None:
    """Values that a plugin's histogram took are counted once, however often it is asked."""
    book, totals, times = ReadingBook(10), Totals(), Distribution(TIMES.bounds)
    for value in (0.5, 1.5, 9.0):
        times.record(value)
        for _ in range(2):
            totals.add(book.report([Reading(TIMES, times, {"who": "a"})]))
    assert summed(totals, TIMES)[("who", "a"),] == [1, 1, 0, 1, 11.0]


def test_labels_that_a_metric_does_not_list_are_left_out() -> None:
    """What a plugin says beyond its metric's own labels makes no series; the same series twice is one."""
    book, totals = ReadingBook(10), Totals()
    totals.add(book.report([Reading(HITS, 1, {"who": "a", "canary": str(number)}) for number in range(5)]))
    assert summed(totals, HITS) == {(("who", "a"),): [5]}
