"""Which store counts: for the limiter, and for plugins that count something of their own."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.limiting.backend import Backend
from gatewaykit.limiting.memory import LEASE, MemoryBackend
from gatewaykit.protocols import GatewayContext
from gatewaykit.settings import ServerSettings, TimeoutSettings

Store: TypeAlias = Literal["auto", "memory", "database", "redis"]
OnFailure: TypeAlias = Literal["local", "deny", "allow"]
logger = logging.getLogger(__name__)
_PART_OF_DEADLINE = 0.8
"""So that a store that hangs is given up, and the policy asked, before a limiter itself is given up."""


def choose_backend(
    gateway: GatewayContext,
    store: Store,
    *,
    setting: str,
    lease: float = LEASE,
    on_failure: OnFailure = "local",
    instances: int = 1,
    what: str = "limits",
) -> Backend:
    """The backend that ``store`` names: memory (:attr:`Backend.instant`), or one that several processes share.

    ``auto`` is Redis where the gateway has one; else the database if there are several workers; else memory.
    ``setting`` is the name of the setting that ``store`` came from, ``what`` is counted. ``lease``, in seconds, and
    ``on_failure`` with ``instances`` are those of the backend and its guard, ``GuardedBackend``.
    Raises :class:`~gatewaykit.errors.ConfigError` when the store is not there.
    """
    workers = gateway.settings.get(ServerSettings).workers
    name: str = store
    if name == "auto":
        shared = "database" if gateway.storage is not None and workers > 1 else "memory"
        name = "redis" if gateway.redis is not None else shared
    if name == "memory":
        if workers > 1:
            logger.warning("each of the %d workers counts %s for itself: set database.url or redis.url", workers, what)
        return MemoryBackend(lease=lease)
    from gatewaykit.limiting.guarded import GuardedBackend

    remote = _remote(gateway, name, setting, lease)
    return GuardedBackend(remote, local=MemoryBackend(lease=lease), policy=on_failure, instances=instances)


def _remote(gateway: GatewayContext, store: str, setting: str, lease: float) -> Backend:
    if store == "redis":
        if gateway.redis is None:
            raise ConfigError([ConfigFault("needs redis.url", setting)])
        from gatewaykit.limiting.redis import RedisBackend

        return RedisBackend(gateway.redis, lease=lease)
    if gateway.storage is None:
        raise ConfigError([ConfigFault("needs database.url", setting)])
    from gatewaykit.limiting.bounded import BoundedBackend
    from gatewaykit.limiting.database import DatabaseBackend

    remote = DatabaseBackend(gateway.storage, lease=lease)
    patience = gateway.settings.get(TimeoutSettings).hook * _PART_OF_DEADLINE
    return BoundedBackend(remote, name=gateway.storage.address, patience=patience)
