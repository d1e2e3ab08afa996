"""The validated settings, and how they are shown: every value with its origin, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct
from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from gatewaykit.errors import ConfigError
from gatewaykit.settings.lines import KeyPath
from gatewaykit.settings.sections import LogSettings, PluginsSettings, Section, ServerSettings, TimeoutSettings
from gatewaykit.settings.tree import dotted

MASK = "********"
DEFAULT = "default"
SectionT = TypeVar("SectionT")


@dataclass(frozen=True)
class Settings:
    """All sections by name: ``settings["server"]``, ``settings.server``, or typed ``settings.get(ServerSettings)``.

    ``origins`` tells for each dotted path where its value comes from: ``gatewaykit.toml:12``, ``environment NAME``,
    ``secret file /run/secrets/x``, ``command line`` or ``default``. ``masked`` are the paths whose values came from a
    secret file or by ``${NAME}``: they are not shown, whatever their type. ``configured`` are the sections that any
    source speaks of, ignored ones too; ``faulty`` those that are missing here because of faults.
    """

    sections: Mapping[str, Section]
    origins: Mapping[str, str] = field(repr=False)
    masked: frozenset[str] = field(default=frozenset(), repr=False)
    configured: frozenset[str] = field(default=frozenset(), repr=False)
    faulty: frozenset[str] = field(default=frozenset(), repr=False)

    def __repr__(self) -> str:
        return f"Settings({', '.join(self.sections)})"

    def __getitem__(self, name: str) -> Section:
        return self.sections[name]

    def get(self, section: type[SectionT]) -> SectionT:
        """The settings of this section's class; KeyError if it was not declared.

        Raises :class:`~gatewaykit.errors.ConfigError`, which adds no fault, if the section has some.
        """
        name = getattr(section, "section", "")
        if name in self.faulty:
            raise ConfigError(())
        found = self.sections.get(name)
        if not isinstance(found, section):
            raise KeyError(section.__name__)
        return found

    @property
    def server(self) -> ServerSettings:
        return self.get(ServerSettings)

    @property
    def plugins(self) -> PluginsSettings:
        return self.get(PluginsSettings)

    @property
    def timeouts(self) -> TimeoutSettings:
        return self.get(TimeoutSettings)

    @property
    def log(self) -> LogSettings:
        return self.get(LogSettings)


class Row(Struct, frozen=True):
    """One line of ``config show``: dotted path, value as JSON (``********`` for a secret, ``unset`` for none), and
    origin."""

    path: str
    value: str
    origin: str


def describe(settings: Settings) -> list[Row]:
    """Every setting in force, section by section."""
    return [
        Row(dotted(path), _display(value, hidden=dotted(path) in settings.masked), settings.origins[dotted(path)])
        for name, section in settings.sections.items()
        for path, value in values_of(section, (name,))
    ]


def values_of(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every value at or below ``path``; tables are gone into, lists are not."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from values_of(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from values_of(item, (*path, str(key)))
    else:
        yield path, value


def json_text(value: Any) -> str:
    """Compact JSON of a setting, secrets masked."""
    return json.dumps(_masked(value), ensure_ascii=False)


def _display(value: Any, *, hidden: bool) -> str:
    if value is None:
        return "unset"
    if hidden or isinstance(value, SecretStr | SecretBytes | Secret):
        return MASK
    return json_text(value)


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes | Secret):
        return MASK
    if isinstance(value, BaseModel):
        return {name: _masked(item) for name, item in value}
    if isinstance(value, Mapping):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    return to_jsonable_python(value, fallback=str)
