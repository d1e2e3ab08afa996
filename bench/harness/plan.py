"""How long and how often: the full run (about 12 minutes) and the quick one (about a minute)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Rounds, seconds and sizes of each scenario. Every load is bounded in count or in time."""

    connections: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 5
    seconds: float = 1.6
    latency_rounds: int = 3
    latency_seconds: float = 4.0
    latency_rate: float = 100.0
    stream_connections: int = 16
    paced: tuple[tuple[int, int], ...] = ((100, 3), (500, 2), (1000, 2))  # streams and rounds
    paced_chunks: int = 60
    paced_gap_ms: int = 50
    workers_connections: int = 64
    workers_rounds: int = 5
    workers_seconds: float = 2.5
    workers_streams: int = 1000
    waiting_streams: int = 1000
    memory_rounds: int = 2
    start_rounds: int = 5
    books_streams: tuple[int, int] = (20, 200)  # chunks of short and long streams
    books_rounds: int = 7
    books_rate: float = 1000.0
    books_seconds: float = 20.0


FULL = Plan()
QUICK = Plan(
    connections=(16, 64),
    rounds=2,
    seconds=0.7,
    latency_rounds=1,
    latency_seconds=1.5,
    paced=((100, 1),),
    paced_chunks=20,
    workers_rounds=1,
    workers_seconds=0.7,
    workers_streams=200,
    waiting_streams=200,
    memory_rounds=1,
    start_rounds=1,
    books_rounds=1,
    books_seconds=4.0,
)
