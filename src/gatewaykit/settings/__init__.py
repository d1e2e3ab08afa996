"""Configuration: models that the core and the plugins declare, filled from the command line, the environment, secret
files and ``gatewaykit.toml``, in this order of strength, with every fault reported at once and at its place.
"""

from __future__ import annotations

from gatewaykit.settings.files import CONFIG_NAME, CONFIG_VARIABLE, find_config
from gatewaykit.settings.loading import COMMAND_LINE, load_settings, read_settings
from gatewaykit.settings.reference import FieldRow, document, fields
from gatewaykit.settings.sections import (
    CORE_SECTIONS,
    BreakerSettings,
    DatabaseSettings,
    Days,
    HedgingSettings,
    LogSettings,
    PluginsSettings,
    ReadableFile,
    RedisSettings,
    RetrySettings,
    Rotation,
    Seconds,
    Section,
    ServerSettings,
    Table,
    TimeoutSettings,
)
from gatewaykit.settings.values import DEFAULT, MASK, Row, Settings, describe

__all__ = [
    "COMMAND_LINE",
    "CONFIG_NAME",
    "CONFIG_VARIABLE",
    "CORE_SECTIONS",
    "DEFAULT",
    "MASK",
    "BreakerSettings",
    "DatabaseSettings",
    "Days",
    "FieldRow",
    "HedgingSettings",
    "LogSettings",
    "PluginsSettings",
    "ReadableFile",
    "RedisSettings",
    "RetrySettings",
    "Rotation",
    "Row",
    "Seconds",
    "Section",
    "ServerSettings",
    "Settings",
    "Table",
    "TimeoutSettings",
    "describe",
    "document",
    "fields",
    "find_config",
    "load_settings",
    "read_settings",
]
