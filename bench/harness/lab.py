"""Starts subjects, loads them, and reads the cost from the outside."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from . import generator
from .build import Programs
from .failures import SubjectError
from .generator import Mock, Shape
from .meter import Meter
from .processes import Group, Placement, free_port, place
from .results import Results, Values
from .subjects import Exchange, Launch, Subject

START_LIMIT_S = 60.0
WAITING_LIMIT_S = 20.0
POLL_S = 0.005
SETTLE_S = 0.05


@dataclass(frozen=True)
class Running:
    """A started subject. `start_s` is the time from its process' start to its first complete answer."""

    subject: Subject
    group: Group
    port: int
    start_s: float


class Lab:
    """The mock upstream, the subjects that run for the whole time, and the measurements so far."""

    def __init__(self, programs: Programs, results: Results, directory: Path) -> None:
        self.programs = programs
        self.results = results
        self.directory = directory
        self.placement = place()
        self.mock = Mock(programs, self.placement, directory)
        self.helpers = [self.mock.group]
        self.stack = ExitStack()
        self.stack.enter_context(self.mock.group)
        self.residents: dict[str, Running] = {}
        self.launched = 0
        self.scenario = ""

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def start(self, subject: Subject, *, workers: int = 1, placement: Placement | None = None) -> Running:
        """Starts a subject and waits for its first complete answer; SubjectError, with the process ended, otherwise."""
        if subject.command is None:
            return Running(subject, self.mock.group, self.mock.port, 0.0)
        launch = Launch(free_port(), self.mock.port, workers, self.directory)
        self.launched += 1
        log = self.directory / f"{subject.name}-{self.launched}.log"
        began = time.monotonic()
        try:
            group = Group(subject.command(launch), cores=(placement or self.placement).subject, log=log)
        except OSError as error:
            raise SubjectError(f"cannot be started: {error}") from None
        try:
            wait_for_answer(group, launch.port, subject.exchange)
        except BaseException:
            group.stop()
            raise
        return Running(subject, group, launch.port, time.monotonic() - began)

    @contextmanager
    def started(self, subject: Subject, *, workers: int = 1, placement: Placement | None = None) -> Iterator[Running]:
        """A subject of its own for one measurement, ended afterwards."""
        running = self.start(subject, workers=workers, placement=placement)
        try:
            yield running
        finally:
            if running.group is not self.mock.group:
                running.group.stop()

    def resident(self, subject: Subject) -> Running:
        """The subject's process that stays for the whole run, started and warmed when first asked for."""
        if subject.name not in self.residents:
            running = self.start(subject)
            if running.group is not self.mock.group:
                self.stack.callback(running.group.stop)
            self.load(running, Shape(connections=32, duration_s=0.7), self.placement)
            self.load(running, Shape(connections=8, requests=64, stream=True), self.placement)
            self.residents[subject.name] = running
        return self.residents[subject.name]

    def mock_to(self, placement: Placement) -> None:
        """The upstream runs where the load of this placement does."""
        self.mock.group.move(placement.load, gives_way=placement.gives_way)

    def working(self, subjects: list[Subject]) -> Iterator[Subject]:
        """The subjects that have not failed so far in this scenario."""
        return (s for s in subjects if (self.scenario, s.name) not in self.results.failures)

    @contextmanager
    def attempt(self, subject: Subject) -> Iterator[None]:
        """Turns a subject's failure into a line of the report and leaves it out until the scenario ends."""
        try:
            yield
        except SubjectError as error:
            self.results.fail(self.scenario, subject.name, str(error))
            say(f"  {subject.label}: {error}")

    def load(
        self,
        running: Running,
        shape: Shape,
        placement: Placement,
        meanwhile: Callable[[Group], None] | None = None,
    ) -> dict[str, Any]:
        """One run of the generator against a subject; its report. `meanwhile` is called with the running generator."""
        argv = generator.command(self.programs, running.port, running.subject.exchange, shape)
        return generator.run(argv, placement, meanwhile)

    def measure(
        self,
        running: Running,
        shape: Shape,
        placement: Placement | None = None,
        meanwhile: Callable[[Group], None] | None = None,
        settled: Callable[[int], object] | None = None,
    ) -> Values:
        """One run of the generator with the subject's CPU time and the upstream's counters around it.

        `settled` is called with the number of good answers and returns when the subject is done with them: what it
        does after an answer counts, too.
        """
        if not running.group.alive():
            raise SubjectError(f"ended on its own: {running.group.last_words()}")
        before, meter = self.mock.counters(), Meter(running.group, self.helpers)
        report = self.load(running, shape, placement or self.placement, meanwhile)
        time.sleep(SETTLE_S)
        if settled is not None:
            settled(report["requests"] - report["non_200"])
        cpu_us, other_share = meter.subject_us(), meter.other_share()
        after = self.mock.counters()
        values = values_of(report, cpu_us, {name: after[name] - before[name] for name in after})
        values["other_share"] = other_share
        self._remark(running.subject, shape, values)
        if report["started"] and report["requests"] == report["non_200"]:
            raise SubjectError(f"answered no request with 200 (last status {report['last_status']})")
        return values

    def await_streams(self, load: Group, streams: int) -> None:
        """Returns when that many streams are open at the upstream; SubjectError when they do not come."""
        deadline = time.monotonic() + WAITING_LIMIT_S
        opened = -1
        while load.alive() and time.monotonic() < deadline:
            now = self.mock.counters()
            opened = now["streams_started"] - now["streams_finished"] - now["streams_aborted"]
            if opened >= streams:
                return
            time.sleep(0.05)
        raise SubjectError(f"only {opened} of {streams} waiting streams reached the upstream")

    def _remark(self, subject: Subject, shape: Shape, values: Values) -> None:
        wrong = [
            f"{values[name]:.0f} {text}"
            for name, text in (
                ("failed", "failed requests"),
                ("unfinished", "requests unfinished at the deadline"),
                ("upstream_difference", "more requests at the upstream than sent"),
            )
            if values[name]
        ]
        if wrong:
            kind = "streams" if shape.stream else "requests"
            self.results.remarks.append(
                f"{self.scenario}: {subject.label}, {kind} on {shape.connections} connections: {', '.join(wrong)}"
            )


def values_of(report: dict[str, Any], cpu_us: float, upstream: dict[str, int]) -> Values:
    """The figures of one run. Times are in microseconds; costs per chunk count the upstream's events."""
    answered, chunks = report["requests"], upstream["chunks"]
    failed = sum(report[name] for name in ("errors", "non_200", "incomplete_streams", "error_events"))
    values: Values = {
        "requests": answered,
        "good": answered - report["non_200"],
        "started": report["started"],
        "failed": failed,
        "unfinished": report["unfinished"],
        "upstream_difference": upstream["json"] + upstream["streams_started"] - report["started"],
        "requests_per_s": report["requests_per_s"],
        "client_chunks": report["chunks"],
        "upstream_chunks": chunks,
        "chunks_per_s": chunks / report["elapsed_s"] if report["elapsed_s"] else 0.0,
        "load_cpu_us": report["cpu_us"],
        "upstream_cpu_us": upstream["cpu_us"],
    }
    if answered:
        values["cpu_us_per_request"] = cpu_us / answered
    if chunks:
        values["cpu_us_per_chunk"] = cpu_us / chunks
    for name in ("latency_us", "first_us"):
        for rank, value in (report[name] or {}).items():
            values[f"{name}_{rank}"] = value
    return values


def wait_for_answer(group: Group, port: int, exchange: Exchange) -> None:
    """Returns at the first answer with status 200; SubjectError when the process ends, or after the time limit."""
    deadline = time.monotonic() + START_LIMIT_S
    last = "no connection"
    while time.monotonic() < deadline:
        if not group.alive():
            raise SubjectError(f"did not start: {group.last_words()}")
        answer = ask_once(port, exchange)
        if answer == "200":
            return
        last = answer or last
        time.sleep(POLL_S)
    raise SubjectError(f"no good answer within {START_LIMIT_S:.0f} s (last: {last})")


def ask_once(port: int, exchange: Exchange) -> str | None:
    """The status of one chat request, with the body unless it is 200; None when nothing listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", exchange.path, exchange.body, dict(h.split(": ", 1) for h in exchange.headers))
        response = connection.getresponse()
        body = response.read()
        return "200" if response.status == 200 else f"{response.status} {body[:200].decode(errors='replace')}"
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def say(text: str) -> None:
    """Progress for whoever waits."""
    print(text, file=sys.stderr, flush=True)
