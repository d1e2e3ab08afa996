"""The scenario `watched`: what it costs a call that it is measured, that somebody scrapes, and that it is traced."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import goals
from .generator import Shape
from .goals import Goal
from .lab import Lab, say
from .plan import Plan
from .results import Results
from .subjects import KEY, Launch, Subject, exchange, gateway_config, serve
from .table import MS, Table, shown

UNWATCHED, MEASURED, SCRAPED, TRACED = "watch-nothing", "watch-metrics", "watch-scraped", "watch-traced"
LABELS = {
    UNWATCHED: "no metrics, no traces",
    MEASURED: "metrics (the default)",
    SCRAPED: "metrics, scraped each second",
    TRACED: "metrics, and a trace of every call",
}
_TOKEN = "bench-scrape-token-0123456789"
_CONFIG = {
    UNWATCHED: "[metrics]\nenabled = false\n",
    MEASURED: "",
    SCRAPED: f'[metrics]\ntoken = "{_TOKEN}"\n',
    TRACED: '[tracing]\nendpoint = "{collector}"\n',
}
CONNECTIONS = 16
SCRAPE_S = 1.0
COUNTED_S = 1.2
"""After the last answer, until the thread that counts once a second has had it; all subjects are waited for."""


def watched(lab: Lab, plan: Plan) -> None:
    """Complete answers and streams, closed loop, with subjects that differ in nothing but who watches them."""
    with _collecting() as collector:
        _in_turns(lab, plan, [_subject(name, collector) for name in LABELS])


def _in_turns(lab: Lab, plan: Plan, subjects: list[Subject]) -> None:
    for variant, stream in (("answers", False), ("streams", True)):
        shape = Shape(connections=CONNECTIONS, duration_s=plan.seconds, stream=stream)
        for turn in range(plan.rounds):
            say(f"watched {variant}: round {turn + 1} of {plan.rounds}")
            for subject in lab.working(subjects):
                with lab.attempt(subject):
                    running = lab.resident(subject)
                    with _scraping(running.port) if subject.name == SCRAPED else nullcontext():
                        values = lab.measure(running, shape, settled=lambda _: time.sleep(COUNTED_S))
                    lab.results.add("watched", variant, subject.name, turn, values)


def watched_table(results: Results) -> Table:
    """What watching adds to a request."""
    table = Table(
        "Metrics and traces",
        f"{CONNECTIONS} connections, one worker. Added and ratio: CPU of the whole process, its threads included, less "
        "or divided by that of the gateway that nobody watches in the same round; the median, and lowest to highest.",
        ["load", "subject", "requests/s", "p50 ms", "CPU µs", "added µs", "ratio", "of rounds", "goal"],
    )
    for variant in ("answers", "streams"):
        for name in (name for name in LABELS if results.rounds("watched", variant, name)):
            at = ("watched", variant, name)
            added = results.added(*at, "cpu_us_per_request", UNWATCHED)
            cells = [
                variant,
                LABELS[name],
                shown(results.median(*at, "requests_per_s")),
                shown(results.median(*at, "latency_us_p50"), 2, MS),
                shown(results.median(*at, "cpu_us_per_request")),
                shown(added),
                shown(results.ratio(*at, "cpu_us_per_request", base=UNWATCHED), 2),
                " to ".join(shown(bound, 2) for bound in results.spread(*at, "cpu_us_per_request", UNWATCHED)),
            ]
            table.add(cells, _held(name, variant, added))
    return table


def _held(name: str, variant: str, added: float | None) -> Goal | None:
    """The goal is that of what everybody has."""
    if added is None or (name, variant) != (MEASURED, "answers"):
        return None
    return Goal("metrics: CPU added to a request, µs", added, goals.METRICS_ADDED_US)


def _subject(name: str, collector: str) -> Subject:
    key = (f"Authorization: Bearer {KEY}",)
    return Subject(name, f"gateway: {LABELS[name]}", exchange("gpt-test", key), _command(name, collector))


def _command(name: str, collector: str) -> Callable[[Launch], list[str]]:
    more = _CONFIG[name].format(collector=collector)
    return lambda launch: serve(launch, name, f"{gateway_config(launch)}\n{more}")


class _Collector(BaseHTTPRequestHandler):
    """Takes spans and does nothing with them, on the harness' cores."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A batch."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _collecting() -> Iterator[str]:
    """The address of a collector until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    """Somebody asks for the metrics, now and each second, until the end of the block."""
    over = threading.Event()

    def scrape() -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {_TOKEN}"})
            connection.getresponse().read()
            connection.close()
            if over.wait(SCRAPE_S):
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
