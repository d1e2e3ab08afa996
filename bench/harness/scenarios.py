"""The scenarios. Each adds samples to the results; subjects take turns within every round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from . import generator
from .books import books
from .generator import Shape
from .lab import Lab, Running, say
from .plan import Plan
from .processes import Group, Placement, place
from .results import Values
from .subjects import Subject, direct
from .watched import watched

RAMP_S = 1.0
WAITING_GAP_MS = 120_000
IDLE_S = 0.5

Scenario = Callable[[Lab, Plan], None]


def in_turns(lab: Lab, scenario: str, variant: str, rounds: int, shape: Shape, subjects: list[Subject]) -> None:
    """A B C, A B C, …: one run of the generator for each subject in each round."""
    for turn in range(rounds):
        say(f"{scenario} {variant}: round {turn + 1} of {rounds}")
        for subject in lab.working(subjects):
            with lab.attempt(subject):
                values = lab.measure(lab.resident(subject), shape)
                lab.results.add(scenario, variant, subject.name, turn, values)


def check(lab: Lab, plan: Plan) -> None:
    """The harness itself: the upstream alone beside the subjects, so that its cost and its counts can be compared."""
    subjects = [direct(), *lab.results.subjects]
    answers = Shape(connections=64, duration_s=plan.seconds)
    streams = Shape(connections=plan.stream_connections, duration_s=plan.seconds, stream=True)
    in_turns(lab, "check", "answers", 1, answers, subjects)
    in_turns(lab, "check", "streams", 1, streams, subjects)


def requests(lab: Lab, plan: Plan) -> None:
    """Complete answers of 1 kB, closed loop."""
    for connections in plan.connections:
        shape = Shape(connections=connections, duration_s=plan.seconds)
        in_turns(lab, "requests", f"{connections}", plan.rounds, shape, lab.results.subjects)


def latency(lab: Lab, plan: Plan) -> None:
    """Complete answers at a fixed rate, far from saturation, beside the upstream alone."""
    shape = Shape(connections=16, duration_s=plan.latency_seconds, rate=plan.latency_rate)
    subjects = [direct(), *lab.results.subjects]
    in_turns(lab, "latency", f"{plan.latency_rate:.0f}", plan.latency_rounds, shape, subjects)


def stream(lab: Lab, plan: Plan) -> None:
    """Streams of 100 events as fast as they go."""
    shape = Shape(connections=plan.stream_connections, duration_s=plan.seconds, stream=True)
    in_turns(lab, "stream", f"{plan.stream_connections}", plan.rounds, shape, lab.results.subjects)


def paced(lab: Lab, plan: Plan) -> None:
    """Many streams at once with a gap between their events, started evenly within a second."""
    lab.mock.pace(chunks=plan.paced_chunks, gap_ms=plan.paced_gap_ms)
    subjects = [direct(), *lab.results.subjects]
    for streams, rounds in plan.paced:
        in_turns(lab, "paced", f"{streams}", rounds, paced_shape(streams), subjects)
    lab.mock.pace()


def paced_shape(streams: int) -> Shape:
    """Each stream on a connection of its own."""
    return Shape(connections=streams, requests=streams, rate=streams / RAMP_S, stream=True, grace_s=30)


def workers(lab: Lab, plan: Plan) -> None:
    """One worker against two, then many paced streams on two."""
    for subject in lab.working([s for s in lab.results.subjects if s.name != "asgi"]):
        say(f"workers: {subject.label}")
        one, two = place(1, most=2), place(2, most=2)
        with (
            lab.attempt(subject),
            lab.started(subject, workers=1, placement=one) as single,
            lab.started(subject, workers=2, placement=two) as double,
        ):
            compare_workers(lab, plan, {"1": (single, one), "2": (double, two)})
    lab.mock_to(lab.placement)


def compare_workers(lab: Lab, plan: Plan, subjects: Mapping[str, tuple[Running, Placement]]) -> None:
    """Both closed loops in turns, then the streams on two workers."""
    closed = Shape(connections=plan.workers_connections, duration_s=plan.workers_seconds)
    for running, placement in subjects.values():
        lab.load(running, Shape(connections=plan.workers_connections, duration_s=0.5), placement)
    for turn in range(plan.workers_rounds):
        for variant, (running, placement) in subjects.items():
            lab.mock_to(placement)
            values = lab.measure(running, closed, placement)
            values["cores_left"] = cores_left(values, placement)
            lab.results.add("workers", variant, running.subject.name, turn, values)
    double, placement = subjects["2"]
    lab.mock.pace(chunks=plan.paced_chunks, gap_ms=plan.paced_gap_ms)
    values = lab.measure(double, paced_shape(plan.workers_streams), placement)
    lab.results.add("workers", f"{plan.workers_streams} streams", double.subject.name, 0, values)
    lab.mock.pace()


def cores_left(values: Values, placement: Placement) -> float:
    """How many cores the workers could have had: all of theirs, less what upstream and load took of them."""
    if not placement.gives_way:
        return len(placement.subject)
    taken_us = values["load_cpu_us"] + values["upstream_cpu_us"]
    return len(placement.subject) - taken_us * values["requests_per_s"] / values["requests"] / 1e6


def memory(lab: Lab, plan: Plan) -> None:
    """Resident memory after the first answer, and what each waiting stream adds to it."""
    for turn in range(plan.memory_rounds):
        say(f"memory: round {turn + 1} of {plan.memory_rounds}")
        for subject in lab.working(lab.results.subjects):
            with lab.attempt(subject), lab.started(subject) as running:
                values = memory_of(lab, running, plan.waiting_streams)
                lab.results.add("memory", f"{plan.waiting_streams}", subject.name, turn, values)


def memory_of(lab: Lab, running: Running, streams: int) -> Values:
    """Bytes of resident memory: idle, and for each of `streams` streams that wait for their second event."""
    time.sleep(IDLE_S)
    idle = running.group.rss_bytes()
    lab.load(running, Shape(connections=16, requests=200), lab.placement)
    lab.load(running, Shape(connections=16, requests=32, stream=True), lab.placement)
    warm = running.group.rss_bytes()
    shape = Shape(connections=streams, requests=streams, rate=500, stream=True, grace_s=60)
    argv = generator.command(lab.programs, running.port, running.subject.exchange, shape)
    lab.mock.pace(chunks=2, gap_ms=WAITING_GAP_MS)
    try:
        with Group(argv, cores=lab.placement.load, log=lab.directory / "waiting.log") as load:
            lab.await_streams(load, streams)
            time.sleep(IDLE_S)
            waiting = running.group.rss_bytes()
    finally:
        lab.mock.pace()
    return {"idle_bytes": idle, "warm_bytes": warm, "bytes_per_stream": (waiting - warm) / streams}


def start(lab: Lab, plan: Plan) -> None:
    """Seconds from the start of the process to its first complete answer."""
    for turn in range(plan.start_rounds):
        say(f"start: round {turn + 1} of {plan.start_rounds}")
        for subject in lab.working(lab.results.subjects):
            with lab.attempt(subject), lab.started(subject) as running:
                lab.results.add("start", "", subject.name, turn, {"seconds": running.start_s})


SCENARIOS: dict[str, Scenario] = {
    "check": check,
    "requests": requests,
    "latency": latency,
    "stream": stream,
    "paced": paced,
    "workers": workers,
    "memory": memory,
    "start": start,
    "books": books,
    "watched": watched,
}
