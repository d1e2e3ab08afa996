"""The tables of the scenario `books`."""

from __future__ import annotations

from . import goals
from .booked import LABELS, MEMORY, PLAIN, REDIS
from .goals import Goal
from .results import Results
from .table import MS, Table, shown

LATE = "latency_us_p90"  # not the median: after five failures the gateway asks Redis no more, and nobody waits


def books_table(results: Results) -> Table:
    """What keys, limits and the ledger add to a request and to a chunk."""
    table = Table(
        "Keys, limits and the ledger",
        "16 connections, one worker. First row: the gateway with a static key and no database. All: a key from SQLite, "
        "24 limits on each call, prices, and a record of it. A chunk's cost is what long streams cost more than short "
        "ones, so the request's own is not in it. Ratio: CPU ÷ that of the first row in the same round; "
        "the median, and lowest to highest. To the reference: CPU ÷ that of the Starlette relay without features; "
        f"{goals.BOOKS_RATIO / goals.REQUESTS_RATIO:.2f} is what the goals for a plain request and for this allow.",
        [
            "cost of",
            "subject",
            "requests/s",
            "p50 ms",
            "CPU µs",
            "added µs",
            "ratio",
            "of rounds",
            "to the reference",
            "goal",
        ],
    )
    for variant, unit, what, limit in (
        ("answers", "cpu_us_per_request", "a request", goals.BOOKS_RATIO),
        ("chunk", "cpu_us", "a chunk", goals.BOOKS_CHUNK_RATIO),
    ):
        for name in (name for name in LABELS if results.rounds("books", variant, name)):
            at = ("books", variant, name)
            ratio = results.ratio(*at, unit, base=PLAIN)
            digits = 0 if variant == "answers" else 1
            cells = [
                what,
                LABELS[name],
                shown(results.median(*at, "requests_per_s")),
                shown(results.median(*at, "latency_us_p50"), 2, MS),
                shown(results.median(*at, unit), digits),
                shown(results.added(*at, unit, PLAIN), digits),
                shown(ratio, 2),
                " to ".join(shown(bound, 2) for bound in results.spread(*at, unit, PLAIN)),
                shown(results.ratio(*at, unit), 2),
            ]
            table.add(cells, held(f"keys, limits and ledger: CPU of {what}, ratio", name, ratio, limit))
    return table


def held(what: str, name: str, value: float | None, limit: float) -> Goal | None:
    """The goals are those of limits in memory: the other stores pay for exactness among workers."""
    return Goal(what, value, limit) if value is not None and name == MEMORY else None


def redis_table(results: Results) -> Table:
    """When Redis is asked."""
    table = Table(
        "What limits in Redis ask of it",
        "Scripts per request by Redis' own count, each one round trip; reads of its connections bound all else that it "
        "was asked. Before: until streams had their first chunk and waited for the second. Late: how much later the "
        "last byte of their slowest (90th percentile) came when Redis was frozen in between.",
        ["scripts/request", "reads/request", "scripts before", "scripts after", "last byte late ms", "goal"],
    )
    before = results.median("books", "held", REDIS, "scripts_before")
    free, frozen = (results.median("books", variant, REDIS, LATE) for variant in ("held", "frozen"))
    late = None if free is None or frozen is None else (frozen - free) * MS
    if results.rounds("books", "answers", REDIS):
        cells = [
            shown(results.median("books", "answers", REDIS, "scripts"), 2),
            shown(results.median("books", "answers", REDIS, "reads"), 2),
            shown(before, 2),
            shown(results.median("books", "held", REDIS, "scripts_after"), 2),
            shown(late, 1),
        ]
        table.add(
            cells,
            None if before is None else Goal("scripts before a call", before, goals.BOOKS_REDIS_BEFORE, unit=" before"),
            None if late is None else Goal("last byte, Redis frozen", late, goals.BOOKS_REDIS_FROZEN_MS, unit=" ms"),
        )
    return table


def flood_table(results: Results) -> Table:
    """Whether the ledger keeps up."""
    table = Table(
        "A flood for the ledger",
        "Limits in memory, one worker, 1 000 requests/s asked for, the keys in turns. Backlog: calls that the upstream "
        "has answered and whose record is not in the database yet; the largest of each half, and the growth from the "
        "first half's median to the second's. Records are counted when nothing is added any more.",
        [
            "keys",
            "requests/s",
            "answered",
            "records",
            "with a price",
            "p99 ms",
            "backlog, first half",
            "second half",
            "growth/s",
            "goal",
        ],
    )
    for values in results.rounds("books", "flood", MEMORY).values():
        growth, least = values.get("growth_per_s"), values["rate"] * goals.BOOKS_RATE_PART
        judged = growth is not None and values["samples"] >= goals.BOOKS_SAMPLES
        cells = [
            *(shown(values[name]) for name in ("keys", "requests_per_s", "good", "records", "priced")),
            shown(values.get("latency_us_p99"), 1, MS),
            *(shown(values.get(half)) for half in ("depth_first", "depth_second")),
            shown(growth, 1),
        ]
        table.add(
            cells,
            Goal("requests/s of the flood", values["requests_per_s"], least, at_least=True, unit="/s"),
            Goal("growth of the backlog", growth or 0.0, goals.BOOKS_GROWTH_PER_S, unit="/s growth")
            if judged
            else None,
            Goal("answers and records, difference", abs(values["good"] - values["records"]), 0, unit=" apart"),
        )
    return table
