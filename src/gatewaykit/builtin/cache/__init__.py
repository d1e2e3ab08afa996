"""Answers given again: exact, for each tenant, in memory or Redis; off by default. See ``docs/cache.md``."""

from __future__ import annotations

from collections.abc import Iterable

from gatewaykit.builtin.cache.settings import CacheSettings
from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.hookspecs import hookimpl
from gatewaykit.protocols import AroundCall, GatewayContext
from gatewaykit.settings import Section
from gatewaykit.types import CACHE


@hookimpl
def gateway_settings() -> Iterable[type[Section]]:
    """``[cache]``."""
    return [CacheSettings]


@hookimpl
def gateway_around_calls(gateway: GatewayContext) -> Iterable[AroundCall]:
    """The cache, if it is switched on. Raises :class:`~gatewaykit.errors.ConfigError` when its store is not there."""
    settings = gateway.settings.get(CacheSettings)
    if not settings.enabled:
        return []
    if CACHE in gateway.providers:
        raise ConfigError([ConfigFault(f"no provider may be called {CACHE!r} beside it", "cache.enabled")])
    from gatewaykit.builtin.cache.cache import Cache
    from gatewaykit.builtin.cache.stores import MemoryStore, RedisStore

    if settings.store == "memory" or (settings.store == "auto" and gateway.redis is None):
        return [Cache(settings, MemoryStore(settings.ttl, settings.max_bytes))]
    if gateway.redis is None:
        raise ConfigError([ConfigFault("needs redis.url", "cache.store")])
    return [Cache(settings, RedisStore(gateway.redis, settings.ttl))]
