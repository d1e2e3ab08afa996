"""What it costs to measure one call, in CPU microseconds: on the client's time, in the counting thread, and for traces.

    python bench/recording.py

Nothing is served: the records are those of ordinary calls, and each figure is the best of several rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from gatewaykit.builtin.metrics.collector import Collector
from gatewaykit.builtin.metrics.exposition import Exposition
from gatewaykit.builtin.metrics.measures import Measures
from gatewaykit.builtin.metrics.series import SeriesBook
from gatewaykit.builtin.metrics.settings import MetricsSettings
from gatewaykit.isolation import Costs, harmless, isolate
from gatewaykit.metrics.totals import Totals
from gatewaykit.pricing import PriceBook, PriceSettings
from gatewaykit.protocols import Observer
from gatewaykit.types import Attempt, CallRecord, Target, Usage

GOAL_US = 60.0
CALLS = 2_000
ROUNDS = 7
HOOKS = 7
"""Hook methods that an ordinary call passes with the default plugins."""

TARGET = Target("openai", "gpt-sandbox")


def record(number: int) -> CallRecord:
    """An answered stream, every second one from another model."""
    return CallRecord(
        request_id=f"{number:032x}",
        began=time.time(),
        method="POST",
        path="/v1/chat/completions",
        dialect="openai_chat",
        status=200,
        outcome="done",
        seconds=1.5,
        principal="key",
        model="gpt-sandbox" if number % 2 else "gpt-small",
        stream=True,
        target=TARGET,
        attempts=(Attempt(TARGET, 0.25),),
        first_event_seconds=0.251,
        usage=Usage(100, 50, 10, 5),
        timings={"auth": 1e-4, "decode": 1e-4, "route": 1e-5, "limit": 1e-4, "provider": 0.25},
        route="/v1/chat/completions",
    )


def best(work: Callable[[], None], per: int) -> float:
    """Microseconds of CPU for one of ``per``, in the best round."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) / per * 1e6)
    return min(found)


def counting(genai: str) -> tuple[float, float, Collector]:
    """On the client's time: taking one record; in the thread: counting it."""
    settings = MetricsSettings.model_validate({"genai": genai})
    book = SeriesBook(settings.series)
    prices = PriceBook(PriceSettings.model_validate({}))
    collector = Collector(Measures(settings, book, prices, lambda model: True, "http"), book, tuple, 1000)
    take = harmless(collector, collector.seal, Costs())
    records = [record(number) for number in range(CALLS)]
    taking, counted = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        for one in records:
            take(one)
        between = time.process_time()
        collector.report()
        taking.append((between - began) / CALLS * 1e6)
        counted.append((time.process_time() - between) / CALLS * 1e6)
    return min(taking), min(counted), collector


class _Owner(Observer):
    name = "bench"


def clocks() -> float:
    """What the account of one hook costs: the difference that it makes to a call of nothing."""

    def nothing(call: object) -> None:
        return None

    accounted = isolate(_Owner(), nothing, nothing, Costs())

    def bare(call: object) -> None:
        try:
            return nothing(call)
        except KeyError:
            return None

    def run(function: Callable[[object], None]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(CALLS):
                function(None)

        return work

    return best(run(accounted), CALLS) - best(run(bare), CALLS)


def scraping(collector: Collector) -> float:
    """Milliseconds of one scrape of these series."""
    for number in range(CALLS):
        collector.seal(record(number))
    totals = Totals()
    totals.add(collector.report())
    exposition = Exposition({})
    exposition.render(totals, "")
    return best(lambda: exposition.render(totals, "") and None, 1) / 1000


def main() -> int:
    """Prints the figures; 1 if measuring costs more than the goal."""
    hook = clocks()
    print(f"{'account of one hook':<46}{hook:8.2f} µs, times {HOOKS} = {hook * HOOKS:.2f} µs")
    worst = 0.0
    for genai in ("1.41", "both"):
        taking, counted, collector = counting(genai)
        worst = max(worst, hook * HOOKS + taking + counted)
        print(f"{f'names {genai}: taking a record, counting it':<46}{taking:8.2f} µs, {counted:.2f} µs")
        print(f"{'  a scrape of its series':<46}{scraping(collector):8.2f} ms")
    print(f"{'all of it for one call, at most':<46}{worst:8.2f} µs; goal: under {GOAL_US:.0f} µs")
    return 0 if worst < GOAL_US else 1


if __name__ == "__main__":
    sys.exit(main())
