"""What hedging gains and costs: time to the first event with one answer in twenty slow, with hedging and without.

``.venv/bin/python bench/hedging.py``; about half a minute, on a quiet machine. The goals are a p99 of half and at most
6 % more calls. The whole gateway is in it, from the ASGI call to the first byte of the answer; providers are simulated
by sleeping.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from gatewaykit import Call, Event, Finished, Gateway, Provider, Target, TextDelta
from gatewaykit.testing import KEY, make_gateway, plugin_of

CALLS, CLIENTS, WARM_UP = 3000, 10, 600
USUAL, SPREAD, SLOW, SLOW_SHARE = 0.02, 0.01, 0.4, 0.05
BODY = json.dumps({"model": "smart", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()


class Simulated(Provider):
    """Begins within some tens of milliseconds; one answer in twenty takes much longer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        """A word, late or not."""
        self.calls += 1
        await asyncio.sleep(SLOW if random.random() < SLOW_SHARE else USUAL + random.random() * SPREAD)
        yield TextDelta("word")
        yield Finished("stop")


async def first_byte(gateway: Gateway) -> float:
    """Seconds of one call until its first byte."""
    began, first = time.perf_counter(), 0.0
    incoming = [{"type": "http.request", "body": BODY, "more_body": False}]
    gone = asyncio.Event()

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal first
        if message["type"] == "http.response.body" and not first:
            first = time.perf_counter() - began

    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "root_path": "", "query_string": b"",
        "headers": [(b"authorization", f"Bearer {KEY}".encode())], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await gateway(scope, receive, send)
    return first


async def run(hedge: dict[str, Any] | None) -> tuple[list[float], float]:
    """Times to the first byte, sorted, and provider calls for each client's call."""
    providers = [Simulated("one"), Simulated("two")]
    model: dict[str, Any] = {"targets": [{"to": "one/m"}, {"to": "two/m"}]}
    if hedge is not None:
        model["hedge"] = hedge
    gateway = make_gateway(plugin_of(providers=providers), router={"models": {"smart": model}})  # hedging: its defaults
    times: list[float] = []

    async def client(count: int) -> None:
        times.extend([await first_byte(gateway) for _ in range(count)])

    async with gateway:
        await asyncio.gather(*(client(WARM_UP // CLIENTS) for _ in range(CLIENTS)))
        times.clear()
        before = sum(provider.calls for provider in providers)
        await asyncio.gather(*(client(CALLS // CLIENTS) for _ in range(CLIENTS)))
        made = sum(provider.calls for provider in providers) - before
    return sorted(times), made / CALLS


async def main() -> None:
    """Measure and print."""
    print("| | p50 ms | p95 ms | p99 ms | provider calls per call |\n| --- | ---: | ---: | ---: | ---: |")
    p99 = []
    for name, hedge in (("without", None), ("hedged at p95", {"after": 0.1, "quantile": 0.95})):
        times, calls = await run(hedge)
        at = [times[int(len(times) * share)] * 1000 for share in (0.5, 0.95, 0.99)]
        p99.append(at[2])
        print(f"| {name} | {' | '.join(f'{each:.1f}' for each in at)} | {calls:.3f} |")
    print(f"\np99 falls by {100 - 100 * p99[1] / p99[0]:.0f} %")


if __name__ == "__main__":
    asyncio.run(main())
