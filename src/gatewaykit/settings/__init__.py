"""Configuration: models that the core and the plugins declare, filled from the command line, the environment, secret
files and ``gatewaykit.toml``, in this order of strength, with every fault reported at once and at its place.
"""

from __future__ import annotations

from gatewaykit.settings.files import CONFIG_NAME, CONFIG_VARIABLE, find_config
from gatewaykit.settings.loading import load_settings
from gatewaykit.settings.reference import FieldRow, document, fields
from gatewaykit.settings.sections import (
    CORE_SECTIONS,
    LogSettings,
    PluginsSettings,
    ReadableFile,
    Seconds,
    Section,
    ServerSettings,
    Table,
    TimeoutSettings,
)
from gatewaykit.settings.values import MASK, Row, Settings, describe

__all__ = [
    "CONFIG_NAME",
    "CONFIG_VARIABLE",
    "CORE_SECTIONS",
    "MASK",
    "FieldRow",
    "LogSettings",
    "PluginsSettings",
    "ReadableFile",
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
]
