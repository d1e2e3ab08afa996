"""Many calls at once through everything together: each has one answer and one record, and nothing is left of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewaykit import (
    BadRequest,
    Call,
    ContentBlocked,
    ContextTooLong,
    Event,
    Finished,
    Provider,
    ProviderBusy,
    ProviderTimeout,
    ProviderUnavailable,
    ProviderUnpaid,
    Target,
    TextDelta,
    Usage,
)
from gatewaykit.testing import gateway_client, make_gateway, plugin_of, until

FAILURES = [
    ProviderUnavailable, ProviderTimeout, ProviderBusy, ProviderUnpaid, ContentBlocked, ContextTooLong, ValueError,
]  # fmt: skip
CALLS, TOGETHER = 300, 30


class Moody(Provider):
    """Fails one time in five, in any way, before or after the first event; sometimes it is slow."""

    def __init__(self, name: str, seed: int, share: float = 0.2) -> None:
        self.name = name
        self._random = random.Random(seed)
        self._share = share
        self.live = 0

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.live += 1
        try:
            if self._random.random() < 0.05:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0)
            if self._random.random() < self._share:
                raise self._random.choice(FAILURES)()
            yield TextDelta("hello")
            await asyncio.sleep(0)
            if self._random.random() < self._share / 4:
                raise ProviderUnavailable
            yield Finished()
            yield Usage(1, 1)
        finally:
            self.live -= 1


@pytest.mark.parametrize("hedged", [False, True], ids=["plain", "hedged"])
async def test_nothing_is_lost_and_nothing_is_left(records: Any, ask: Any, hedged: bool) -> None:
    """300 calls to two providers that fail in 20 % of all tries, with a third that is well."""
    providers = [Moody("one", 1), Moody("two", 2), Moody("three", 3, 0.0)]
    model: dict[str, Any] = {
        "targets": [{"to": "one/m"}, {"to": "two/m"}, {"to": "three/m", "priority": 2}],
        "strategy": "least_in_flight",
    }
    if hedged:
        model["hedge"] = {"after": 0.01}
    gateway = make_gateway(
        plugin_of(providers=providers, observers=[records]),
        router={"models": {"smart": model}},
        retries={"attempts": 2, "backoff": 0.001},
        breaker={"enabled": True, "cooldown": 0.05},
        hedging={"share": 0.05},
    )
    good = 0
    async with gateway_client(gateway) as client:

        async def ask_for(count: int) -> int:
            done = 0
            for number in range(count):
                answer = await client.post("/v1/chat/completions", json={**ask, "stream": number % 2 == 0})
                done += answer.status_code == 200 and '"error"' not in answer.text
            return done

        good = sum(await asyncio.gather(*(ask_for(CALLS // TOGETHER) for _ in range(TOGETHER))))
        await until(lambda: not any(provider.live for provider in providers))
        assert not any(state.in_flight for state in gateway.targets.all())
    assert len(records.seen) == len({record.request_id for record in records.seen}) == CALLS
    for record in records.seen:
        errors = [attempt.error for attempt in record.attempts]
        assert errors.count(None) == (record.target is not None)
        if record.target is not None:
            assert errors[-1] is None
    before_first_event = [record for record in records.seen if record.target is None]
    assert not before_first_event, "the third provider is well: nobody fails before the first event"
    assert good > CALLS * 0.9
    assert gateway.targets.hedging.taken <= CALLS * 0.05 + 2 + 10


async def test_a_bad_request_is_nobody_s_fault(records: Any, ask: Any) -> None:
    """A thousand of them open no circuit and take nothing from the budget."""

    class Strict(Provider):
        name = "one"

        async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
            raise BadRequest("no")
            yield TextDelta("")

    gateway = make_gateway(
        plugin_of(providers=[Strict()]),
        router={"models": {"smart": {"targets": [{"to": "one/m"}]}}},
        retries={"attempts": 2},
        breaker={"enabled": True, "calls": 2},
    )
    async with gateway_client(gateway) as client:
        for _ in range(30):
            assert (await client.post("/v1/chat/completions", json=ask)).status_code == 400
    assert gateway.targets[Target("one", "m")].circuit == "closed"
    assert gateway.targets.budget.taken == 0
