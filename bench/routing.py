"""What the router costs: microseconds of CPU for each request to a model with 50 targets, by strategy.

``.venv/bin/python bench/routing.py``; a few seconds. The goal is under 20 µs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gatewaykit.builtin.router.router import ModelRouter
from gatewaykit.testing import FakeProvider, make_call, make_gateway, plugin_of

TARGETS = 50
ROUNDS, CALLS = 7, 3000
GOAL = 20.0
STRATEGIES = ("order", "weighted", "least_latency", "least_in_flight", "cheapest", "sticky", "rules")


def router_of(strategy: str) -> ModelRouter:
    """A router whose model has 50 targets, all of which have answered; for ``rules``, 20 rules that do not fit."""
    targets = [{"to": f"fake/m{number}", "weight": 1 + number % 5} for number in range(TARGETS)]
    model = {"targets": targets, "sticky": strategy == "sticky"}
    if strategy not in {"sticky", "rules"}:
        model["strategy"] = strategy
    rule = {"to": "smart", "headers": {"x-tier": "gold"}, "tools": True, "longer_than": 1000}
    rules = [rule] * 20 if strategy == "rules" else []
    gateway = make_gateway(plugin_of(providers=[FakeProvider()]), router={"models": {"smart": model}, "rules": rules})
    now = time.monotonic()
    for number, state in enumerate(gateway.targets.all()):
        state.first_event.add(0.1 + number / 100, now)
    router = gateway.routers["models"]
    assert isinstance(router, ModelRouter)
    return router


def measured(work: Callable[[], object]) -> float:
    """Microseconds of CPU of one call of ``work``: the best of the rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            work()
        found.append((time.process_time() - began) / CALLS * 1e6)
    return min(found)


def main() -> None:
    """Measure and print."""
    text = "Tell me how a gateway routes requests. " * 25
    call = make_call(text, model="smart")
    print(f"| strategy | µs per request, {TARGETS} targets | goal |\n| --- | ---: | --- |")
    for strategy in STRATEGIES:
        router = router_of(strategy)
        microseconds = measured(lambda router=router: router.route(call))  # type: ignore[misc]
        print(f"| {strategy} | {microseconds:.2f} | {'reached' if microseconds < GOAL else 'missed'} |")


if __name__ == "__main__":
    main()
