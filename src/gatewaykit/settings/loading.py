"""From all sources to validated settings: the one place that knows the precedence and collects every fault."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from msgspec import Struct
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from gatewaykit.errors import ConfigError, ConfigFault
from gatewaykit.settings.environment import Environment
from gatewaykit.settings.files import ConfigFile, read_config
from gatewaykit.settings.filling import Filler
from gatewaykit.settings.lines import KeyPath
from gatewaykit.settings.messages import did_you_mean, explain, shown
from gatewaykit.settings.sections import Section
from gatewaykit.settings.shape import Node, Root
from gatewaykit.settings.tree import Leaf, Tree, dotted, find, grow, leaves, merge, plain, put
from gatewaykit.settings.values import DEFAULT, Settings, values_of

COMMAND_LINE = "command line"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DEFECTS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError)


def load_settings(
    sections: Mapping[str, Iterable[type[Section]]],
    *,
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    partial: bool = False,
    ignored: Collection[str] = (),
) -> Settings:
    """Validated settings; arguments as of :func:`read_settings`. Raises :class:`~gatewaykit.errors.ConfigError` with
    every fault found.
    """
    settings, faults = read_settings(
        sections, file=file, environ=environ, overrides=overrides, partial=partial, ignored=ignored
    )
    if faults:
        raise ConfigError(faults)
    return settings


def read_settings(
    sections: Mapping[str, Iterable[type[Section]]],
    *,
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    partial: bool = False,
    ignored: Collection[str] = (),
) -> tuple[Settings, list[ConfigFault]]:
    """Settings of all ``sections``, which are given by the name of the plugin that owns them, and every fault found.

    ``overrides`` maps dotted paths (``server.port``) to values; None counts as not given. ``file`` must be readable;
    None reads none (see :func:`find_config`). For each key the strongest source counts: ``overrides``,
    ``GATEWAYKIT_…``, variables that a section declares, secret files, the file, the default. Tables are joined key
    by key, lists are replaced whole.

    ``partial`` leaves all other sections and variables alone: for reading ``[plugins]`` before the plugins are known.
    ``ignored`` does so for the sections named, such as those of blocked plugins. Sections with faults, and all when
    the file cannot be read, are missing from the settings.
    """
    faults: list[ConfigFault] = []
    root = Root(_declared(sections, faults))

    def elsewhere(name: str) -> bool:
        return name not in root.fields and (partial or name in ignored)

    config = read_config(file, faults) if file is not None else ConfigFile()
    environment = Environment(root, environ, config.tree, elsewhere, faults)
    tree = reduce(merge, (config.tree, *environment.layers(), _overridden(overrides or {})))
    filled = Filler(root, environ, config.places, faults).fill(tree)
    check = _Check(root, filled, config.places, config.usable, faults)
    check.refuse_unknown_sections(elsewhere)
    instances = dict(check.instances())
    known = instances if config.usable else {}
    origins, masked = _provenance(instances, filled)
    faulty = frozenset(root.sections) - frozenset(known)
    return Settings(known, origins, masked, frozenset(tree), faulty), faults


def _declared(owned: Mapping[str, Iterable[type[Section]]], faults: list[ConfigFault]) -> Iterator[type[Section]]:
    """The sections of all owners; names that are bad or taken, and variables that lead nowhere, are faults."""
    owners: dict[str, str] = {}
    for owner, section in ((owner, section) for owner, sections in owned.items() for section in sections):
        name = getattr(section, "section", "")
        where = f"plugin {owner}"
        if not _NAME.fullmatch(name):
            faults.append(ConfigFault(f"{section.__name__} has no valid section name", where))
        elif name in owners:
            faults.append(ConfigFault(f"section [{name}] already belongs to plugin {owners[name]}", where))
        else:
            owners[name] = owner
            for variable, target in section.environment.items():
                if Node(section).at(tuple(target.split("."))) is None:
                    problem = f"section [{name}] has no field {target} for variable {variable}"
                    faults.append(ConfigFault(problem, where))
            yield section


def _overridden(overrides: Mapping[str, Any]) -> Tree:
    tree: Tree = {}
    for key, value in overrides.items():
        if value is not None:
            put(tree, tuple(key.split(".")), grow(value, _option))
    return tree


def _option(value: object, _: KeyPath) -> Leaf:
    if isinstance(value, SecretStr):
        return Leaf(value.get_secret_value(), COMMAND_LINE, confidential=True)
    return Leaf(value, COMMAND_LINE)


def _provenance(instances: Mapping[str, Section], tree: Tree) -> tuple[dict[str, str], frozenset[str]]:
    """Where each value comes from, and which may not be shown."""
    origins: dict[str, str] = {}
    masked: set[str] = set()
    for name, instance in instances.items():
        for path, _ in values_of(instance, (name,)):
            leaf = find(tree, path)
            origins[dotted(path)] = leaf.origin if isinstance(leaf, Leaf) else DEFAULT
            if isinstance(leaf, Leaf) and leaf.confidential:
                masked.add(dotted(path))
    return origins, frozenset(masked)


class _Check(Struct, frozen=True):
    """Validation of a filled tree, section by section, with pydantic's errors told in our words. Unless ``complete``,
    a file could not be read, and nothing can be called missing.
    """

    root: Root
    tree: Tree
    places: Mapping[KeyPath, str]
    complete: bool
    faults: list[ConfigFault]

    def refuse_unknown_sections(self, elsewhere: Callable[[str], bool]) -> None:
        for name, node in self.tree.items():
            if name in self.root.fields or elsewhere(name):
                continue
            if isinstance(node, Leaf):
                homes = [f"{section}.{name}" for section, shape in self.root.fields.items() if name in shape.fields]
                hint = f"; did you mean {homes[0]}?" if homes else ""
                problem = f"{dotted((name,))}: stands outside of any section{hint}"
            else:
                hint = did_you_mean(f"[{name}]", [f"[{known}]" for known in self.root.fields])
                problem = f"unknown section [{dotted((name,))}]{hint}"
            self.faults.append(ConfigFault(problem, self._place((name,))))

    def instances(self) -> Iterator[tuple[str, Section]]:
        """Each section that is in order; the faults of the others are noted."""
        for name, section in self.root.sections.items():
            document = plain(self.tree.get(name, {}))
            try:
                text = json.dumps(document, default=_json_value)
                yield name, section.model_validate_json(text, strict=True)
            except ValidationError as error:
                self._translate(name, document, error)
            except _DEFECTS as error:
                problem = f"[{name}]: its validation broke with {type(error).__name__}"
                self.faults.append(ConfigFault(problem, self._place((name,))))

    def _translate(self, name: str, document: Any, error: ValidationError) -> None:
        """One fault for each place: what the members of a union say of it is joined."""
        said: dict[KeyPath, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            if detail["type"] == "missing" and not self.complete:
                continue
            said.setdefault((name, *_data_path(detail, document)), []).append(detail)
        broken = [path for path, leaf in leaves(self.tree) if leaf.broken]
        for path, details in said.items():
            if any(path[: len(other)] == other[: len(path)] for other in broken):
                continue
            parent = self.root.at(path[:-1])
            known = parent.fields if parent is not None else ()
            words = dict.fromkeys(explain(detail, known, self._secrets()) for detail in details)
            problem = f"{dotted(path)}: {' or '.join(words)}{self._shown(path, details[0])}"
            self.faults.append(ConfigFault(problem, self._place(path)))

    def _shown(self, path: KeyPath, detail: ErrorDetails) -> str:
        """The offending value, if it is sure to be none that is secret."""
        node, leaf = self.root.at(path), find(self.tree, path)
        if node is None or node.secret or not isinstance(leaf, Leaf) or leaf.confidential:
            return ""
        return shown(detail["input"])

    def _secrets(self) -> Iterator[str]:
        for path, leaf in leaves(self.tree):
            node = self.root.at(path)
            if leaf.confidential or node is None or node.secret:
                yield from _strings(leaf.value)

    def _place(self, path: KeyPath) -> str:
        """Where ``path`` is given, or else the nearest place around it."""
        for length in range(len(path), 0, -1):
            around = path[:length]
            node = find(self.tree, around)
            if isinstance(node, Leaf) and not node.from_file:
                return node.origin
            if around in self.places:
                return self.places[around]
            if node is not None and (below := next(leaves(node), None)):
                return below[1].origin
        return f"section [{path[0]}]"


def _data_path(detail: ErrorDetails, document: Any) -> KeyPath:
    """pydantic's location without the names of union members, which it puts between the keys."""
    path: KeyPath = ()
    for key in detail["loc"]:
        try:
            document = document[key]
        except (LookupError, TypeError):
            continue
        path = (*path, key)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif value is not None and (text := str(value)):
        yield text


def _json_value(value: Any) -> Any:
    """What JSON does not know: dates of TOML, paths of a caller."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
