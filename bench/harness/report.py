"""Tables from results: one for each scenario, with the ratios to the reference and the goals beside them."""

from __future__ import annotations

from collections.abc import Callable

from . import goals
from .books_report import books_table, flood_table, redis_table
from .goals import Goal
from .results import Results
from .subjects import DIRECT, Subject, direct
from .table import KB, MB, MS, Table, shown
from .watched import watched_table


def tables_of(results: Results) -> list[Table]:
    """The tables of the scenarios that were run."""
    measured = {sample.scenario for sample in results.samples}
    built = [build(results) for name, build in TABLES if name in measured]
    return [table for table in built if table.rows]


def goal(
    subject: Subject, what: str, value: float | None, limit: float, *, at_least: bool = False, unit: str = ""
) -> Goal | None:
    """A goal of the gateway; None for other subjects and for values that were not measured."""
    if value is None or subject.name not in goals.OF_GATEWAY:
        return None
    return Goal(f"{subject.label}: {what}", value, limit, at_least, unit)


def requests_table(results: Results) -> Table:
    """Throughput and cost of complete answers."""
    table = Table(
        "Complete answers, closed loop",
        "1 kB each way, instant upstream, one worker. Ratio: requests/s ÷ those of the Starlette reference; "
        "CPU ratio: its CPU per request ÷ the subject's, which is the same on a quiet machine.",
        ["connections", "subject", "requests/s", "CPU µs/request", "p50 ms", "p99 ms", "CPU ratio", "ratio", "goal"],
    )
    for variant in results.variants("requests"):
        for subject in measured_subjects(results, "requests", variant):
            at = ("requests", variant, subject.name)
            ratio = results.ratio(*at, "requests_per_s")
            limit = goal(
                subject, f"requests/s ratio, {variant} connections", ratio, goals.REQUESTS_RATIO, at_least=True
            )
            cells = [
                variant,
                subject.label,
                shown(results.median(*at, "requests_per_s")),
                shown(results.median(*at, "cpu_us_per_request")),
                shown(results.median(*at, "latency_us_p50"), 2, MS),
                shown(results.median(*at, "latency_us_p99"), 2, MS),
                shown(inverse(results.ratio(*at, "cpu_us_per_request")), 2),
                shown(ratio, 2),
            ]
            table.add(cells, limit if variant in goals.REQUESTS_RATIO_AT else None)
    return table


def latency_table(results: Results) -> Table:
    """Latency that a subject adds at a fixed rate."""
    table = Table(
        "Added latency at a fixed rate",
        "Open loop, times from the intended start. Added: the subject's percentile minus the upstream's own.",
        ["requests/s", "subject", "p50 ms", "p99 ms", "added p50 ms", "added p99 ms", "CPU µs/request", "goal"],
    )
    for variant in results.variants("latency"):
        for subject in measured_subjects(results, "latency", variant):
            at = ("latency", variant, subject.name)
            p50 = results.added(*at, "latency_us_p50", DIRECT)
            p99 = results.added(*at, "latency_us_p99", DIRECT)
            cells = [
                variant,
                subject.label,
                shown(results.median(*at, "latency_us_p50"), 2, MS),
                shown(results.median(*at, "latency_us_p99"), 2, MS),
                shown(p50, 2, MS),
                shown(p99, 2, MS),
                shown(results.median(*at, "cpu_us_per_request")),
            ]
            table.add(
                cells,
                goal(subject, "added p50", in_ms(p50), goals.ADDED_P50_MS, unit=" ms"),
                goal(subject, "added p99", in_ms(p99), goals.ADDED_P99_MS, unit=" ms"),
            )
    return table


def stream_table(results: Results) -> Table:
    """Cost of a chunk when nothing waits."""
    table = Table(
        "Streams of 100 chunks, saturated",
        "Chunks arrive as fast as they are taken. Ratio: CPU per chunk ÷ that of the Starlette reference.",
        ["connections", "subject", "chunks/s", "CPU µs/chunk", "streams/s", "first p50 ms", "ratio", "goal"],
    )
    for variant in results.variants("stream"):
        for subject in measured_subjects(results, "stream", variant):
            at = ("stream", variant, subject.name)
            ratio = results.ratio(*at, "cpu_us_per_chunk")
            cells = [
                variant,
                subject.label,
                shown(results.median(*at, "chunks_per_s")),
                shown(results.median(*at, "cpu_us_per_chunk"), 1),
                shown(results.median(*at, "requests_per_s")),
                shown(results.median(*at, "first_us_p50"), 2, MS),
                shown(ratio, 2),
            ]
            limit = goals.CHUNK_RATIO.get(subject.name, 0.0)
            table.add(cells, goal(subject, "CPU per chunk, ratio", ratio, limit))
    return table


def paced_table(results: Results) -> Table:
    """Many slow streams at once."""
    table = Table(
        "Paced streams, one worker",
        "A chunk every 50 ms on each stream. Added: time to the first chunk minus the upstream's own.",
        [
            "streams",
            "subject",
            "finished",
            "first p50 ms",
            "first p99 ms",
            "added p50 ms",
            "CPU µs/chunk",
            "whole p50 s",
            "ratio",
            "goal",
        ],
    )
    for variant in results.variants("paced"):
        for subject in measured_subjects(results, "paced", variant):
            at = ("paced", variant, subject.name)
            added = results.added(*at, "first_us_p50", DIRECT)
            cells = [
                variant,
                subject.label,
                finished(results, *at),
                shown(results.median(*at, "first_us_p50"), 2, MS),
                shown(results.median(*at, "first_us_p99"), 2, MS),
                shown(added, 2, MS),
                shown(results.median(*at, "cpu_us_per_chunk"), 1),
                shown(results.median(*at, "latency_us_p50"), 2, 1e-6),
                shown(results.ratio(*at, "cpu_us_per_chunk"), 2) if subject.name != DIRECT else "–",
            ]
            first = goal(subject, "first chunk, added p50", in_ms(added), goals.FIRST_ADDED_P50_MS, unit=" ms")
            table.add(cells, first if variant == goals.FIRST_ADDED_AT else None)
    return table


def workers_table(results: Results) -> Table:
    """Two workers beside one."""
    streams = next((v for v in results.variants("workers") if v.endswith("streams")), "streams")
    table = Table(
        "Two workers",
        f"Closed loop on one and on two workers; then {streams} with a chunk every 50 ms on two. Cores: CPU seconds "
        "that the workers had in a second, of those that load and upstream left them: of a machine with two they take "
        "their part, and give way. Ratio: requests/s ÷ those of one worker, and the same per core that was left, "
        "twice: what two workers do on two cores of their own.",
        [
            "subject",
            "requests/s, 1",
            "cores, 1",
            "requests/s, 2",
            "cores, 2",
            "cores left, 2",
            "ratio",
            "on whole cores",
            "streams finished",
            "first p50 ms",
            "CPU µs/chunk",
            "goal",
        ],
    )
    for subject in measured_subjects(results, "workers", "1"):
        one, two, many = (("workers", v, subject.name) for v in ("1", "2", streams))
        ratio = worker_ratio(results, subject.name)
        whole = whole_cores_ratio(results, subject.name)
        cells = [
            subject.label,
            shown(results.median(*one, "requests_per_s")),
            shown(cores(results, *one), 2),
            shown(results.median(*two, "requests_per_s")),
            shown(cores(results, *two), 2),
            shown(results.median(*two, "cores_left"), 2),
            shown(ratio, 2),
            shown(whole, 2),
            finished(results, *many),
            shown(results.median(*many, "first_us_p50"), 2, MS),
            shown(results.median(*many, "cpu_us_per_chunk"), 1),
        ]
        table.add(
            cells,
            goal(subject, "two workers ÷ one, on whole cores", whole, goals.WORKERS_RATIO, at_least=True),
            goal(subject, f"{streams} on two workers", unfinished(results, *many), 0, unit=" unfinished"),
        )
    return table


def memory_table(results: Results) -> Table:
    """Resident memory."""
    table = Table(
        "Memory, one worker",
        "Resident set after the first answer, and its growth for each stream that waits for its next chunk.",
        ["streams", "subject", "idle MB", "kB per waiting stream", "goal"],
    )
    for variant in results.variants("memory"):
        for subject in measured_subjects(results, "memory", variant):
            at = ("memory", variant, subject.name)
            idle, each = results.median(*at, "idle_bytes"), results.median(*at, "bytes_per_stream")
            table.add(
                [variant, subject.label, shown(idle, 1, MB), shown(each, 1, KB)],
                goal(subject, "idle memory", scaled(idle, MB), goals.IDLE_MB, unit=" MB"),
                goal(subject, "memory per waiting stream", scaled(each, KB), goals.KB_PER_STREAM, unit=" kB"),
            )
    return table


def start_table(results: Results) -> Table:
    """Time to the first answer."""
    table = Table(
        "Start", "From the start of the process to its first complete chat answer.", ["subject", "seconds", "goal"]
    )
    for subject in measured_subjects(results, "start", ""):
        seconds = results.median("start", "", subject.name, "seconds")
        held = goal(subject, "start to first answer", seconds, goals.START_S, unit=" s")
        table.add([subject.label, shown(seconds, 2)], held)
    return table


def check_table(results: Results) -> Table:
    """Whether the harness is cheap enough and counts right."""
    table = Table(
        "The harness itself",
        "CPU of upstream and generator beside each subject's; requests and chunks must agree on both sides.",
        [
            "what",
            "subject",
            "sent",
            "at upstream",
            "chunks sent",
            "chunks received",
            "CPU µs/request",
            "upstream µs",
            "generator µs",
            "",
        ],
    )
    for variant in results.variants("check"):
        for subject in measured_subjects(results, "check", variant):
            for values in results.rounds("check", variant, subject.name).values():
                sent, answered = values["started"], values["requests"]
                numbers = (sent, sent + values["upstream_difference"])
                chunks = (values["upstream_chunks"], values["client_chunks"])
                costs = (values["upstream_cpu_us"], values["load_cpu_us"])
                per_request = [shown(cost / answered, 1) for cost in costs] if answered else ["–", "–"]
                cpu = shown(values.get("cpu_us_per_request"), 1)
                table.add([variant, subject.label, *map(shown, numbers + chunks), cpu, *per_request])
    return table


def measured_subjects(results: Results, scenario: str, variant: str) -> list[Subject]:
    """The subjects with a sample, the upstream alone first."""
    candidates = [direct(), *results.subjects]
    return [subject for subject in candidates if results.rounds(scenario, variant, subject.name)]


def finished(results: Results, scenario: str, variant: str, subject: str) -> str:
    """Complete streams of those started, over all rounds."""
    rounds = results.rounds(scenario, variant, subject).values()
    started = sum(values["started"] for values in rounds)
    good = sum(values["requests"] - values["failed"] for values in rounds)
    return f"{good:.0f} of {started:.0f}" if rounds else "–"


def unfinished(results: Results, scenario: str, variant: str, subject: str) -> float | None:
    """Streams that did not end well, over all rounds; None when nothing was measured."""
    rounds = results.rounds(scenario, variant, subject).values()
    return sum(values["unfinished"] + values["failed"] for values in rounds) if rounds else None


def cores(results: Results, scenario: str, variant: str, subject: str) -> float | None:
    """How many cores the subject was busy on."""
    each = results.median(scenario, variant, subject, "cpu_us_per_request")
    number = results.median(scenario, variant, subject, "requests_per_s")
    return None if each is None or number is None else each * number / 1e6


def worker_ratio(results: Results, subject: str) -> float | None:
    """Requests/s of two workers ÷ those of one, by medians."""
    one = results.median("workers", "1", subject, "requests_per_s")
    two = results.median("workers", "2", subject, "requests_per_s")
    return two / one if one and two else None


def whole_cores_ratio(results: Results, subject: str) -> float | None:
    """The same for each core that load and upstream left the workers, times two."""
    ratio = worker_ratio(results, subject)
    one = results.median("workers", "1", subject, "cores_left")
    two = results.median("workers", "2", subject, "cores_left")
    return ratio * one / two * 2 if ratio and one and two else None


def inverse(value: float | None) -> float | None:
    """One over the value."""
    return 1 / value if value else None


def in_ms(value_us: float | None) -> float | None:
    """Microseconds as milliseconds."""
    return scaled(value_us, MS)


def scaled(value: float | None, scale: float) -> float | None:
    """A value in another unit, when there is one."""
    return None if value is None else value * scale


TABLES: tuple[tuple[str, Callable[[Results], Table]], ...] = (
    ("requests", requests_table),
    ("latency", latency_table),
    ("stream", stream_table),
    ("paced", paced_table),
    ("workers", workers_table),
    ("memory", memory_table),
    ("start", start_table),
    ("books", books_table),
    ("books", redis_table),
    ("books", flood_table),
    ("watched", watched_table),
    ("check", check_table),
)
