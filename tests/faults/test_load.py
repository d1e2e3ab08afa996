"""Many calls while a fifth of them meets a fault, and a provider that dies and comes back under load.

``TESTS_FAULT_REQUESTS`` says how many calls; without it there are enough to show a share of one per cent. What came of
them is printed: ``pytest -rP``.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from gatewaykit.testing import until
from gatewaykit.types import Principal
from gatewaykit_gigachat.sandbox import running_sandbox

from .conftest import ALONE, HEALTHY, PAIR, world_of

REQUESTS = int(os.environ.get("TESTS_FAULT_REQUESTS", "800"))
CALLERS = 40
SHARE = 0.2
BEFORE = ("status=500", "status=429; retry-after=1", "html=502", "empty=503", "drop=before", "garbage=1", "delay=3")
"""Faults before the first event: those of a stream that another target can make good."""

WHOLE = (*BEFORE, "drop=after:3", "stall=0", "half-line=1", "finish=error")
"""Faults of an answer in one piece."""

COOLDOWN = 0.5


async def test_a_fifth_of_faults_hardly_reaches_a_client(tmp_path: Path) -> None:
    """With one healthy fallback less than one call in a hundred fails, each call has one record in the ledger, and no
    place at a credential, in a limit or at a target stays taken.
    """
    ledger = tmp_path / "ledger.db"
    chance = random.Random(20)
    statuses: Counter[int] = Counter()
    ids: list[str] = []
    left = iter(range(REQUESTS))
    with running_sandbox() as sandbox:
        config: dict[str, Any] = {
            "database": {"url": f"sqlite:///{ledger}"},
            "limits": {"each_key": {"concurrency": 500}},
            "timeouts": {"first_event": 1.0, "between_events": 1.0},
            "retries": {},
            "breaker": {"cooldown": COOLDOWN},
        }
        async with world_of(sandbox, **config) as world:

            async def caller() -> None:
                for number in left:
                    stream = number % 2 == 0
                    faulty = chance.random() < SHARE
                    fault = chance.choice(BEFORE if stream else WHOLE) if faulty else ""
                    answer = await world.ask(PAIR, fault, stream=stream)
                    good = answer.status_code == 200 and (not stream or answer.text.endswith("data: [DONE]\n\n"))
                    statuses[200 if good else answer.status_code] += 1
                    ids.append(answer.headers["x-request-id"])

            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(caller())
            provider: Any = world.gateway.providers["gigachat"]
            await until(lambda: not any(member.in_use for member in provider.snapshot().members), 10.0)
            assert provider.snapshot().waiting == 0
            await until(lambda: sandbox.stats.parallel == 0, 10.0)
            standings = await world.gateway.standings(Principal("static:test"))
            assert [(standing.limit.unit, standing.used) for standing in standings] == [("concurrency", 0)]
            targets = world.gateway._assembly.parts.attempts._targets
            assert all(state.in_flight == 0 for state in targets.all())
    asked = sandbox.stats.requests["/chat/completions"]  # the breaker spares it some of the calls
    assert sandbox.stats.faults > asked * SHARE * 0.75
    assert asked > REQUESTS / 10
    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] > 0.99 * REQUESTS, statuses
    with sqlite3.connect(ledger) as connection:
        recorded = [row[0] for row in connection.execute("SELECT request_id FROM call_records")]
        outcomes = dict(connection.execute("SELECT outcome, count(*) FROM call_records GROUP BY outcome"))
    connection.close()
    print(
        f"{REQUESTS} calls, {sandbox.stats.faults} faults met, statuses {dict(statuses)}, records {outcomes}, "
        f"{len(set(recorded))} of {len(set(ids))} ids recorded, at most {sandbox.stats.peak_parallel} calls at a time "
        f"at the provider, {sandbox.stats.refused_parallel} of them refused"
    )
    assert sorted(recorded) == sorted(ids)


async def test_a_provider_that_dies_and_comes_back() -> None:
    """While it is away calls get 503, soon without anybody asking it; with a fallback all are answered; once it is back
    the first probe after the cooldown brings it into use again, by itself.
    """
    seen: dict[str, list[tuple[float, int]]] = {ALONE: [], PAIR: []}
    over = asyncio.Event()
    with ExitStack() as first:
        sandbox = first.enter_context(running_sandbox())
        port = httpx.URL(sandbox.base_url).port or 0
        config: dict[str, Any] = {
            "breaker": {"cooldown": COOLDOWN, "calls": 10, "window": 5},
            "retries": {"attempts": 0},
            "timeouts": {"first_event": 2.0},
        }
        async with world_of(sandbox, **config) as world:

            async def caller(model: str) -> None:
                while not over.is_set():
                    answer = await world.ask(model)
                    if model == PAIR and answer.status_code == 200:
                        assert HEALTHY in answer.text or "word30" in answer.text
                    seen[model].append((time.monotonic(), answer.status_code))

            def since(moment: float, model: str, status: int) -> int:
                return sum(1 for at, found in seen[model] if at > moment and found == status)

            callers = [asyncio.create_task(caller(model)) for model in (ALONE, PAIR) for _ in range(6)]
            await until(lambda: since(0, ALONE, 200) > 20, 20.0)
            first.close()
            killed = time.monotonic()
            await until(lambda: since(killed, ALONE, 503) > 60, 20.0)
            away = time.monotonic()
            with running_sandbox(port=port) as again:
                back = time.monotonic()
                await until(lambda: since(back, ALONE, 200) > 20, 20.0)
                recovered = next(at for at, status in seen[ALONE] if at > back and status == 200)
                over.set()
                await asyncio.gather(*callers)
                requests = again.stats.requests["/chat/completions"]
            assert requests > 20
    assert {status for at, status in seen[ALONE] if at > killed} <= {200, 503}
    assert {status for _, status in seen[PAIR]} == {200}
    assert since(away, PAIR, 200) > 0
    assert recovered - back < COOLDOWN + 5
