"""Limits of requests, tokens, concurrency and money; see ``docs/keys-and-limits.md``."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from gatewaykit.builtin.limits.limiter import Limits
from gatewaykit.builtin.limits.plans import Estimator, Plans
from gatewaykit.builtin.limits.settings import LimitsSettings
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.hookspecs import hookimpl
from gatewaykit.limiting import Backend, MemoryBackend
from gatewaykit.limits import Limit, period
from gatewaykit.pricing import PriceBook
from gatewaykit.protocols import GatewayContext, Limiter
from gatewaykit.settings import Section, ServerSettings, TimeoutSettings

logger = logging.getLogger(__name__)
_PART_OF_DEADLINE = 0.8
"""So that a store that hangs is given up, and the policy asked, before the limiter itself is given up."""


def choose_backend(gateway: GatewayContext, settings: LimitsSettings) -> Backend:
    """What ``limits.store`` names. Raises :class:`~gatewaykit.errors.ConfigError` when it is not there."""
    store: str = settings.store
    workers = gateway.settings.get(ServerSettings).workers
    if store == "auto":
        shared = "database" if gateway.storage is not None and workers > 1 else "memory"
        store = "redis" if gateway.redis is not None else shared
    if store == "memory":
        if workers > 1:
            logger.warning("each of the %d workers counts limits for itself: set database.url or redis.url", workers)
        return MemoryBackend(lease=settings.lease)
    return _guarded(_remote(gateway, settings, store), settings)


def _remote(gateway: GatewayContext, settings: LimitsSettings, store: str) -> Backend:
    if store == "redis":
        if gateway.redis is None:
            raise ConfigError([ConfigFault("needs redis.url", "limits.store")])
        from gatewaykit.limiting.redis import RedisBackend

        return RedisBackend(gateway.redis, lease=settings.lease)
    if gateway.storage is None:
        raise ConfigError([ConfigFault("needs database.url", "limits.store")])
    from gatewaykit.limiting.bounded import BoundedBackend
    from gatewaykit.limiting.database import DatabaseBackend

    remote = DatabaseBackend(gateway.storage, lease=settings.lease)
    patience = gateway.settings.get(TimeoutSettings).hook * _PART_OF_DEADLINE
    return BoundedBackend(remote, name=gateway.storage.address, patience=patience)


def _guarded(remote: Backend, settings: LimitsSettings) -> Backend:
    from gatewaykit.limiting.guarded import GuardedBackend

    local = MemoryBackend(lease=settings.lease)
    return GuardedBackend(remote, local=local, policy=settings.on_failure, instances=settings.instances)


class Books:
    """What was spent before a store began to count, from the ledger; nothing is known without a database."""

    def __init__(self, gateway: GatewayContext) -> None:
        self._storage = gateway.storage

    async def spent(self, limit: Limit) -> int:
        """Micro-units of the currency of accounting, since the limit's period began."""
        if self._storage is None or not isinstance(limit.span, str) or limit.unit != "money":
            return 0
        from gatewaykit.storage.spending import spent

        begins, _ = period(limit.span, datetime.now(UTC).timestamp())
        since = datetime.fromtimestamp(begins, UTC)
        return await self._storage.read(lambda session: spent(session, limit.subject, since))


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[limits]``."""
    return [LimitsSettings]


@hookimpl
def gateway_limiters(gateway: GatewayContext) -> Iterable[Limiter]:
    """The limiter. It is there without any limit in the configuration, too: keys bring their own."""
    settings = gateway.settings.get(LimitsSettings)
    book = PriceBook.of(gateway)
    estimator = Estimator(book, output_tokens=settings.output_tokens)
    backend = choose_backend(gateway, settings)
    return [Limits(Plans(settings), estimator, backend, Books(gateway).spent, book.currency)]
