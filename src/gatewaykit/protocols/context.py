"""The gateway, as the objects of plugins see it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct

from gatewaykit.limits import Forecast, Standing
from gatewaykit.metrics import Reading
from gatewaykit.metrics.totals import Report, Totals
from gatewaykit.protocols.objects import Known, Provider, Router
from gatewaykit.types import (
    Call,
    Incoming,
    Principal,
)

if TYPE_CHECKING:
    from gatewaykit.attempts.targets import Targets
    from gatewaykit.redislink import RedisLink
    from gatewaykit.storage import Storage

SectionT = TypeVar("SectionT")


class Tally(Protocol):
    """Sums that all worker processes share, and that outlive each of them."""

    def contribute(self, report: Callable[[], Report]) -> None:
        """Ask ``report`` for what is new, in this process: every second, and whenever somebody reads.

        It is called by one thread at a time, never by the event loop's, and may not wait. What it returned is counted;
        it is not asked for the same again.
        """
        ...

    async def read(self) -> Totals:
        """The sums of all processes, with what each of them has just reported."""
        ...


class Reloaded(Struct, frozen=True):
    """What became of a reload: sections that are ``in_force`` now, and those that have changed and ``wait`` for a
    restart.
    """

    in_force: tuple[str, ...]
    wait: tuple[str, ...]


class Settings(Protocol):
    """The validated settings, by section."""

    def get(self, section: type[SectionT]) -> SectionT:
        """The settings of this section's class, as it was declared in ``gateway_settings``."""
        ...


class GatewayContext(Protocol):
    """The gateway as plugins see it while it is put together."""

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        ...

    @property
    def providers(self) -> Mapping[str, Provider]:
        """All providers by name; complete in every hook but ``gateway_providers``."""
        ...

    @property
    def routers(self) -> Mapping[str, Router]:
        """All routers by name; complete in ``gateway_routes`` and whatever runs later."""
        ...

    @property
    def storage(self) -> Storage | None:
        """The database of ``[database]``, open while the gateway runs; None without one."""
        ...

    @property
    def redis(self) -> RedisLink | None:
        """The Redis of ``[redis]``, connected while the gateway runs; None without one."""
        ...

    def knows(self, model: str) -> bool:
        """Whether a router knows this name by itself; see :meth:`Router.knows`."""
        ...

    @property
    def tally(self) -> Tally:
        """What the workers count together."""
        ...

    def readings(self) -> Sequence[Reading]:
        """How everything in this process stands that has ``readings``, the gateway's own parts included."""
        ...

    @property
    def targets(self) -> Targets:
        """What is known of every target in this process, and what attempts came to."""
        ...

    async def authenticate(self, incoming: Incoming) -> Principal:
        """Who calls, by the gateway's authenticators: for routes of your own. See :func:`gatewaykit.guarding.guarded`.

        Raises :class:`~gatewaykit.errors.AuthFailed`, or what an authenticator raises.
        """
        ...

    async def standings(self, principal: Principal) -> Sequence[Standing]:
        """How the principal's own limits stand, as its limiters tell."""
        ...

    async def look_up(self, id: str) -> Known | None:  # noqa: A002 - the word for it everywhere
        """Who has this id, as the first authenticator that knows it tells; see :meth:`Authenticator.look_up`."""
        ...

    async def foretell(self, call: Call) -> Sequence[Forecast]:
        """What the limiters would say to ``call``, without counting it; see :meth:`Limiter.foretell`."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the gateway has started, in the running event loop."""
        ...

    def reload(self, *, everywhere: bool = False) -> Reloaded:
        """Read the configuration again and put into force what can be changed while the gateway runs.

        ``everywhere`` asks the other workers of this machine to do the same. Raises
        :class:`~gatewaykit.errors.ConfigError` with every fault; then nothing has changed.
        """
        ...

    @property
    def logger(self) -> logging.Logger:
        """The gateway's logger; modules may as well use their own."""
        ...
