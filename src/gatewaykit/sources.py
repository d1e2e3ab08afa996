"""Where a gateway's configuration comes from, and the stores that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatewaykit.errors import ConfigError, ConfigFault, PluginError
from gatewaykit.registry import Registry
from gatewaykit.settings import (
    CORE_SECTIONS,
    DatabaseSettings,
    PluginsSettings,
    RedisSettings,
    Section,
    Settings,
    read_settings,
)

if TYPE_CHECKING:
    from gatewaykit.redislink import RedisLink
    from gatewaykit.storage import Storage


class Sources:
    """Where the configuration comes from; read twice: for ``[plugins]``, and when all sections are known."""

    def __init__(
        self, config: Path | str | Mapping[str, Any] | None, environ: Mapping[str, str], overrides: Mapping[str, Any]
    ) -> None:
        given = config if isinstance(config, Mapping) else {}
        self._file = Path(config) if isinstance(config, str | Path) else None
        self._environ = environ
        self._overrides = {**given, **overrides}

    def load_plugins(self, plugins: Iterable[object]) -> Registry:
        """The registry with all plugins that take part.

        Raises when ``[plugins]`` has faults, with those of the core's other sections: then nobody knows which to load.
        """
        wanted, faults = self._read({"gatewaykit": CORE_SECTIONS}, partial=True)
        if PluginsSettings.section in wanted.faulty:
            raise ConfigError(faults)
        settings = wanted.get(PluginsSettings)
        registry = Registry()
        registry.discover(required=settings.required, blocked=settings.blocked, configured=wanted.configured)
        for plugin in plugins:
            try:
                registry.add(plugin)
            except PluginError as error:
                registry.faults.append(ConfigFault(error.message, f"plugin {error.plugin}"))
        return registry

    def load_settings(self, registry: Registry) -> Settings:
        """All sections, those of the plugins too; faults are added to ``registry.faults``."""
        owned: dict[str, list[type[Section]]] = {"gatewaykit": list(CORE_SECTIONS)}
        for plugin, section in registry.collect("gateway_settings"):
            owned.setdefault(plugin, []).append(section)
        blamed = {fault.where for fault in registry.faults}
        idle = [
            info.name.replace("-", "_")
            for info in registry.report
            if info.status != "active" or f"plugin {info.name}" in blamed
        ]
        settings, faults = self._read(owned, ignored=idle)
        registry.faults.extend(faults)
        return settings

    def _read(
        self, sections: Mapping[str, Iterable[type[Section]]], **options: Any
    ) -> tuple[Settings, list[ConfigFault]]:
        return read_settings(sections, file=self._file, environ=self._environ, overrides=self._overrides, **options)


def find_storage(registry: Registry, settings: Settings) -> Storage | None:
    """The database of ``[database]``, not opened yet, with the plugins' migrations; None without a URL.

    Problems are added to ``registry.faults``.
    """
    sources = [source for _, source in registry.collect("gateway_migrations")]
    try:
        database = settings.get(DatabaseSettings)
        if database.url is None:
            return None
        from gatewaykit.storage import Storage

        return Storage(database, sources)
    except ConfigError as error:
        registry.faults.extend(error.faults)
        return None


def find_redis(registry: Registry, settings: Settings) -> RedisLink | None:
    """The Redis of ``[redis]``, not connected yet; None without a URL. Problems are added to ``registry.faults``."""
    try:
        redis = settings.get(RedisSettings)
        if redis.url is None:
            return None
        from gatewaykit.redislink import RedisLink

        return RedisLink(redis)
    except ConfigError as error:
        registry.faults.extend(error.faults)
        return None
