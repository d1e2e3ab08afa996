"""Stand-ins for what a gateway is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeAlias

from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import Provider
from gatewaykit.types import Call, Event, Finished, Model, Target, TextDelta, Usage

Line: TypeAlias = Event | BaseException | asyncio.Event
_numbers = count(1)


class FakeProvider(Provider):
    """Follows a script: yields events, raises errors, and waits wherever an :class:`asyncio.Event` stands.

    ::

        gate = asyncio.Event()
        fake = FakeProvider(TextDelta("one"), gate, ProviderUnavailable())

    Without a script it says hello. ``calls`` are the calls it got; ``opened`` and ``closed`` count streams that began
    and that are over, whichever way; ``cancelled`` those that were left before their end. ``closings`` counts
    :meth:`aclose`.
    """

    def __init__(self, *script: Line, name: str = "fake", models: Iterable[str] = ()) -> None:
        self.name = name
        self.script: Sequence[Line] = script or (TextDelta("Hello"), TextDelta("!"), Finished("stop"), Usage(3, 2))
        self.calls: list[Call] = []
        self.opened = self.closed = self.cancelled = self.closings = 0
        self._models = tuple(Model(model, name) for model in models)

    async def stream(self, call: Call, target: Target) -> AsyncIterator[Event]:
        """The script, line by line."""
        self.calls.append(call)
        self.opened += 1
        try:
            for line in self.script:
                if isinstance(line, Event):
                    yield line
                elif isinstance(line, asyncio.Event):
                    await line.wait()
                else:
                    raise line
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.closed += 1

    async def models(self) -> Sequence[Model]:
        """The models it was given."""
        return self._models

    async def aclose(self) -> None:
        """Only counted."""
        self.closings += 1


def plugin_of(*, name: str = "", **objects: Iterable[Any]) -> object:
    """A plugin whose hooks return these objects; keywords are hooks without their ``gateway_``.

    ::

        make_gateway(plugin_of(providers=[FakeProvider()], transforms=[Shout()]))

    ``name`` is the plugin's; without it each gets a name of its own.
    """
    hooks = {f"gateway_{kind}": _returning(tuple(items)) for kind, items in objects.items()}
    return SimpleNamespace(name=name or f"test-plugin-{next(_numbers)}", **hooks)


def _returning(items: tuple[Any, ...]) -> Callable[[], tuple[Any, ...]]:
    @hookimpl
    def hook() -> tuple[Any, ...]:
        return items

    return hook
