"""What the tests of routing share: providers with a script for each try, and gateways of them that record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from gatewaykit import Call, CallRecord, Event, Finished, Gateway, Model, Observer, Provider, Reply, Target, TextDelta
from gatewaykit.testing import make_gateway, plugin_of

REQUEST: dict[str, Any] = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}


class Scripted(Provider):
    """Does for each try what the next line of its script says: an error is raised, an event waited for, and ``None``
    is a good answer, as is everything after the end. ``calls`` are the calls that came, ``left`` those cancelled.
    """

    def __init__(self, name: str, *script: Any) -> None:
        self.name = name
        self.script = list(script)
        self.calls: list[Call] = []
        self.targets: list[Target] = []
        self.left = 0

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        self.calls.append(call)
        self.targets.append(target)
        step = self.script.pop(0) if self.script else None
        try:
            if isinstance(step, BaseException):
                raise step
            if step is not None:
                await step.wait()
            yield TextDelta(f"from {self.name}")
            yield Finished("stop")
        except BaseException:
            self.left += not isinstance(step, BaseException)
            raise

    async def complete(self, call: Call, target: Target) -> Reply | None:
        return None

    async def models(self) -> Iterable[Model]:
        return ()


class Records(Observer):
    """Keeps what it sees."""

    name = "records"

    def __init__(self) -> None:
        self.seen: list[CallRecord] = []

    def record(self, record: CallRecord) -> None:
        self.seen.append(record)

    @property
    def only(self) -> CallRecord:
        """The one record."""
        (record,) = self.seen
        return record

    def tries(self) -> list[tuple[str, str | None]]:
        """The attempts of the one record."""
        return [(str(attempt.target), attempt.error) for attempt in self.only.attempts]


@pytest.fixture
def records() -> Records:
    """An observer; it has seen everything when its gateway has stopped."""
    return Records()


def gateway_of(providers: Iterable[Provider], records: Records | None = None, **config: Any) -> Gateway:
    """A gateway whose model ``smart`` is at each of ``providers``, in order, unless ``config`` says otherwise."""
    providers = list(providers)
    usual: dict[str, Any] = {"retries": {"attempts": 2, "backoff": 0.0}}
    if "router" not in config:
        usual["router"] = {"aliases": {"smart": [f"{provider.name}/m" for provider in providers]}}
    observers = [] if records is None else [records]
    return make_gateway(plugin_of(providers=providers, observers=observers), **{**usual, **config})


@pytest.fixture
def scripted() -> type[Scripted]:
    """A provider with a script."""
    return Scripted


@pytest.fixture
def make() -> Any:
    """Makes gateways, see :func:`gateway_of`."""
    return gateway_of


@pytest.fixture
def ask() -> dict[str, Any]:
    """A request for the model ``smart``."""
    return dict(REQUEST)
