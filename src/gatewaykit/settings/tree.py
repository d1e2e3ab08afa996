"""Values on their way from a source to a model: nested tables whose leaves know where they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gatewaykit.settings.lines import KeyPath

MAX_DEPTH = 32
"""Tables and arrays in one another; deeper is refused before anything recurses."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that is given as one piece: a scalar, or a list with all that is in it.

    ``origin`` is what a message says of its source. ``from_file``: stands in the configuration file, so that
    ``${NAME}`` is to be filled in. ``confidential``: not to be shown, whatever the field's type. ``broken``:
    unusable, and already reported.
    """

    value: Any = field(repr=False)
    origin: str
    from_file: bool = False
    confidential: bool = False
    broken: bool = False


Tree: TypeAlias = "dict[str, Leaf | Tree]"


def grow(value: object, leaf: Callable[[object, KeyPath], Leaf], path: KeyPath = ()) -> Leaf | Tree:
    """A tree of the same shape: mappings become tables, ``leaf(value, path)`` makes everything else."""
    if isinstance(value, Mapping):
        return {str(key): grow(item, leaf, (*path, str(key))) for key, item in value.items()}
    return leaf(value, path)


def put(tree: Tree, path: KeyPath, node: Leaf | Tree) -> None:
    """Sets ``path`` of ``tree``, joining tables; a scalar that is in the way gives way."""
    for key in path[:-1]:
        below = tree.get(str(key))
        if not isinstance(below, dict):
            below = tree[str(key)] = {}
        tree = below
    last = str(path[-1])
    known = tree.get(last)
    tree[last] = merge(known, node) if isinstance(known, dict) and isinstance(node, dict) else node


def merge(low: Tree, high: Tree) -> Tree:
    """Both: tables are joined key by key, and of everything else ``high`` wins whole."""
    merged = dict(low)
    for key, node in high.items():
        known = merged.get(key)
        merged[key] = merge(known, node) if isinstance(known, dict) and isinstance(node, dict) else node
    return merged


def leaves(node: Leaf | Tree, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Leaf]]:
    """Every leaf with its path, in order."""
    if isinstance(node, Leaf):
        yield path, node
    else:
        for key, below in node.items():
            yield from leaves(below, (*path, key))


def find(tree: Tree, path: KeyPath) -> Leaf | Tree | None:
    """What stands at ``path``; the leaf that holds it, if ``path`` leads into a list."""
    node: Leaf | Tree | None = tree
    for key in path:
        if not isinstance(node, dict):
            return node
        node = node.get(str(key))
    return node


def plain(node: Leaf | Tree) -> Any:
    """The bare values, without broken leaves."""
    if isinstance(node, Leaf):
        return node.value
    return {key: plain(below) for key, below in node.items() if not (isinstance(below, Leaf) and below.broken)}


def too_deep(value: object) -> bool:
    """More than ``MAX_DEPTH`` levels; never recurses, so that no input exhausts the stack."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for holder in level
            if isinstance(holder, Mapping | list)
            for item in (holder.values() if isinstance(holder, Mapping) else holder)
        ]
        if not level:
            return False
    return True


def dotted(path: KeyPath) -> str:
    """A path as TOML spells it: ``openai.upstreams."a.b".models[0]``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key))
    return text
