"""The last step before validation: ``${NAME}`` in the file becomes the variable's value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gatewaykit.errors import ConfigFault
from gatewaykit.settings.lines import KeyPath
from gatewaykit.settings.shape import Node, read_text
from gatewaykit.settings.tree import Leaf, Tree, dotted

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


@dataclass
class Filler:
    """Fills the references of those values that no stronger source has replaced."""

    root: Node
    environ: Mapping[str, str]
    places: Mapping[KeyPath, str]
    faults: list[ConfigFault]
    _used: bool = field(default=False, init=False)
    _failed: bool = field(default=False, init=False)

    def fill(self, tree: Tree, path: KeyPath = ()) -> Tree:
        """The same tree; leaves that got a variable's value are confidential, those that could not are broken."""
        return {
            key: self._leaf(node, (*path, key)) if isinstance(node, Leaf) else self.fill(node, (*path, key))
            for key, node in tree.items()
        }

    def _leaf(self, leaf: Leaf, path: KeyPath) -> Leaf:
        self._used = self._failed = False
        value = self._filled(leaf.value, path) if leaf.from_file else leaf.value
        if not self._failed and not _is_text(value):
            self._refuse(path, "is not valid text", leaf.origin)
        return replace(
            leaf, value=value, confidential=leaf.confidential or self._used, broken=leaf.broken or self._failed
        )

    def _filled(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, list):
            return [self._filled(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._filled(item, (*path, key)) for key, item in value.items()}
        if not isinstance(value, str) or "${" not in value:
            return value
        used, self._used = self._used, False
        text = _REFERENCE.sub(lambda match: self._value(match, path), value)
        node = self.root.at(path)
        value = read_text(text, node) if self._used and node is not None else text
        self._used |= used
        return value

    def _value(self, match: re.Match[str], path: KeyPath) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None:
            self._refuse(path, "'${' needs a variable's name and '}'; for the text '${' itself write '$${'")
        elif name not in self.environ:
            self._refuse(path, f"variable {name} is not set")
        else:
            self._used = True
            return self.environ[name]
        return ""

    def _refuse(self, path: KeyPath, problem: str, where: str | None = None) -> None:
        self._failed = True
        self.faults.append(ConfigFault(f"{dotted(path)}: {problem}", where or self.places[path]))


def _is_text(value: Any) -> bool:
    """Every string in it can be written as UTF-8; the environment may hold bytes that cannot."""
    if isinstance(value, dict):
        return all(_is_text(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return all(_is_text(item) for item in value)
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return True
