"""How often and how long: the retry policy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatewaykit.errors import BadRequest, GatewayError, ProviderBusy, ProviderTimeout, ProviderUnavailable
from gatewaykit_gigachat.errors import Refused
from gatewaykit_gigachat.retries import Retries


class Failing:
    """Fails with the errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def busy(status: int = 429, wait: float | None = None) -> Refused:
    return Refused(status, ProviderBusy(retry_after=wait))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which are not waited."""
    seen: list[float] = []
    sleep = asyncio.sleep

    async def note(delay: float, *rest: Any) -> None:
        seen.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return seen


async def test_waits_grow_at_random_up_to_the_longest(waits: list[float]) -> None:
    """Wait n is between 0 and factor times 2 to the n, never above the longest."""
    for _ in range(30):
        operation = Failing(*[busy() for _ in range(6)])
        assert await Retries(6, 1.0, 5.0, {429}).run(operation) == "done"
        assert operation.tries == 7
    for number, limit in enumerate((1, 2, 4, 5, 5, 5)):
        column = waits[number::6]
        assert len(column) == 30
        assert 0 <= min(column) <= limit / 2 <= max(column) <= limit


async def test_the_servers_wish_wins(waits: list[float]) -> None:
    """A Retry-After is waited exactly."""
    await Retries(3, 0.0, 10.0, {429, 503}).run(Failing(busy(wait=7), busy(503, 3)))
    assert waits == [7, 3]


async def test_the_last_error_is_raised_bare(waits: list[float]) -> None:
    """When all tries fail, the caller gets the error of the last one, in the gateway's words."""
    operation = Failing(busy(), Refused(503, ProviderUnavailable(detail="last")), busy())
    with pytest.raises(ProviderUnavailable, match="last"):
        await Retries(1, 0.0, 1.0, {429, 503}).run(operation)
    assert operation.tries == 2


@pytest.mark.parametrize(
    "error",
    [Refused(400, BadRequest()), busy(500), busy(wait=60), BadRequest(), ValueError()],
)
async def test_what_cannot_pass_is_tried_once(error: Exception) -> None:
    """Client's errors, other statuses, waits that are too long, and defects are not tried again."""
    operation = Failing(error)
    with pytest.raises((GatewayError, ValueError)):
        await Retries(5, 0.0, 10.0, {429}).run(operation)
    assert operation.tries == 1


async def test_broken_connections_are_tried_again(waits: list[float]) -> None:
    """Failures of the network have no status, and may pass."""
    assert await Retries(2, 0.0, 1.0, ()).run(Failing(ProviderUnavailable(), ProviderTimeout())) == "done"


async def test_no_retries_when_none_are_wanted() -> None:
    """``max_retries = 0`` means one try."""
    operation = Failing(busy())
    with pytest.raises(ProviderBusy):
        await Retries(0, 0.0, 1.0, {429}).run(operation)
    assert operation.tries == 1


async def test_cancelling_a_wait_ends_it() -> None:
    """A caller that leaves during the wait is not kept."""
    operation = Failing(busy(wait=60))
    task = asyncio.create_task(Retries(3, 0.0, 100.0, {429}).run(operation))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert operation.tries == 1
