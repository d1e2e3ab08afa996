"""What the gateway is made of once it is put together: plain tuples of plain functions, frozen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from gatewaykit.admission import Door
from gatewaykit.limits import Forecast, Standing
from gatewaykit.protocols import Dialect, Permit, Proceed
from gatewaykit.relay import OnEvent, OnReply
from gatewaykit.types import Call, CallRecord, Model, Principal, Target

if TYPE_CHECKING:
    from gatewaykit.attempts.scope import Attempts


class TimeLimits(Struct, frozen=True):
    """Seconds: for the request's body, between events, for the whole call, until a comment is sent."""

    request_body: float
    between_events: float
    whole_call: float
    keepalive: float


class Parts(Struct, frozen=True):
    """Every hook of the request's way, in order, but for ``on_request``, of which some may be idle. ``around`` is the
    prebuilt chain of all around-calls.
    """

    door: Door
    limiters: tuple[Callable[[Call], Awaitable[Permit | None]], ...]
    standings: tuple[Callable[[Principal], Awaitable[Sequence[Standing] | None]], ...]
    forecasts: tuple[Callable[[Call], Awaitable[Sequence[Forecast] | None]], ...]
    routes: tuple[Callable[[Call], Sequence[Target]], ...]
    catalogues: tuple[Callable[[Call], Awaitable[Sequence[Model] | None]], ...]
    on_event: OnEvent | None
    on_reply: tuple[OnReply, ...]
    around: Callable[[Proceed], Proceed]
    attempts: Attempts
    seal: tuple[Callable[[CallRecord], None], ...]
    observe: Callable[[CallRecord], None]
    limits: TimeLimits
    max_body_bytes: int


class DialectTable:
    """Finds the dialect of a path: a dictionary look-up, then the few paths that end in ``/*``, the longest first."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self.dialects = tuple(dialects)
        self._exact: dict[str, dict[str, Dialect]] = {}
        self._below: list[tuple[str, dict[str, Dialect]]] = []
        for dialect in dialects:
            for method, path in dialect.routes:
                self._methods(path)[method] = dialect
        self._below.sort(key=lambda below: len(below[0]), reverse=True)

    def _methods(self, path: str) -> dict[str, Dialect]:
        if not path.endswith("/*"):
            return self._exact.setdefault(path, {})
        prefix = path[:-1]
        for known, methods in self._below:
            if known == prefix:
                return methods
        self._below.append((prefix, {}))
        return self._below[-1][1]

    def methods(self, path: str) -> Mapping[str, Dialect] | None:
        """The dialects of ``path`` by HTTP method; ``None`` when no dialect has this path."""
        found = self._exact.get(path)
        if found is None:
            for prefix, methods in self._below:
                if path.startswith(prefix) and len(path) > len(prefix):
                    return methods
        return found
