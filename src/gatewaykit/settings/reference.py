"""The reference of all settings, made from the models: what ``docs/configuration.md`` shows."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Struct
from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from gatewaykit.settings.environment import variable
from gatewaykit.settings.sections import Section
from gatewaykit.settings.shape import Node
from gatewaykit.settings.values import json_text

FREE_KEY = "NAME"
_DEPTH = 6
_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    Decimal: "decimal number",
    bool: "`true` or `false`",
    Path: "path",
    Any: "any",
}
_BOUNDS = (("ge", "at least {}"), ("gt", "more than {}"), ("le", "at most {}"), ("lt", "less than {}"))


class FieldRow(Struct, frozen=True):
    """One setting: its dotted path below the section (``NAME`` stands for a key that the user chooses), its type and
    default in words, the variables that set it (our own name first), and its meaning.
    """

    path: str
    type: str
    default: str
    environment: tuple[str, ...]
    meaning: str


def fields(section: type[Section]) -> list[FieldRow]:
    """Every setting of a section; tables inside it follow the setting that holds them."""
    return list(_rows(section, Node(section), ()))


def document(sections: Iterable[type[Section]]) -> str:
    """Markdown: for each section a heading, its docstring and a table of its settings."""
    return "\n".join(_chapter(section) for section in sections)


def _chapter(section: type[Section]) -> str:
    lines = [f"## `[{section.section}]`", "", inspect.cleandoc(section.__doc__ or ""), ""]
    lines += ["| key | type | default | environment | meaning |", "| --- | --- | --- | --- | --- |"]
    for row in fields(section):
        names = ", ".join(f"`{name}`" for name in row.environment)
        cells = (f"`{row.path}`", row.type, row.default, names, row.meaning)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _rows(section: type[Section], node: Node, path: tuple[str, ...]) -> Iterator[FieldRow]:
    for key, info in node.infos.items():
        here = (*path, key)
        others = [name for name, target in section.environment.items() if target == ".".join(here)]
        yield FieldRow(
            path=".".join(here),
            type=_kind(info.annotation) + _bounds(info),
            default=_default(info),
            environment=(variable((section.section, *here)), *others),
            meaning=info.description or "",
        )
        below = node.fields[key]
        if len(here) < _DEPTH:
            yield from _rows(section, below, here)
            yield from _rows(section, below.entry or Node(None), (*here, FREE_KEY))


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__value__"):
        return _kind(annotation.__value__)
    if origin is Annotated:
        return _kind(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(_kind(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (list, tuple, set, frozenset):
        return f"list of {_kind(parts[0])}s" if Node(parts[0]).infos else f"list of {_kind(parts[0])}"
    if origin is dict:
        return "tables" if Node(parts[1]).infos else f"table of {_kind(parts[1])}"
    if issubclass(annotation, SecretStr | SecretBytes | Secret):
        return "secret"
    if issubclass(annotation, BaseModel):
        return "table"
    return _WORDS.get(annotation) or str(annotation.__name__)


def _bounds(info: FieldInfo) -> str:
    said = [
        words.format(limit)
        for mark in info.metadata
        for name, words in _BOUNDS
        if (limit := getattr(mark, name, None)) is not None
    ]
    return f", {', '.join(said)}" if said else ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    return "unset" if value is None else f"`{json_text(value)}`"
