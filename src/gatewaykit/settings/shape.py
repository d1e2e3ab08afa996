"""What the models expect at a path: which keys, how a text is to be read, and whether it is a secret."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from gatewaykit.settings.lines import KeyPath
from gatewaykit.settings.sections import Section
from gatewaykit.settings.tree import too_deep

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_SEQUENCES = (list, tuple, set, frozenset)


class Node:
    """A place in the configuration: every type that may stand there, unions taken apart."""

    def __init__(self, annotation: Any) -> None:
        self.members: tuple[Any, ...] = tuple(_flatten(annotation))

    @cached_property
    def infos(self) -> dict[str, FieldInfo]:
        """The fields of a table, by the key that the user writes."""
        models = (member for member in self.members if _is(member, BaseModel))
        return {info.alias or name: info for model in models for name, info in model.model_fields.items()}

    @cached_property
    def fields(self) -> dict[str, Node]:
        return {key: Node(info.annotation) for key, info in self.infos.items()}

    @cached_property
    def entry(self) -> Node | None:
        """What a table with free keys holds under each of them."""
        mappings = [member for member in self.members if _is(get_origin(member) or member, Mapping)]
        return Node((get_args(mappings[0]) or (str, Any))[1]) if mappings else None

    @cached_property
    def item(self) -> Node | None:
        """What a list holds."""
        lists = [member for member in self.members if _is(get_origin(member) or member, _SEQUENCES)]
        return Node((get_args(lists[0]) or (Any,))[0]) if lists else None

    def child(self, key: str | int) -> Node | None:
        """The place below ``key``; None if there is none."""
        if isinstance(key, int):
            return self.item
        return self.fields.get(key) or self.entry

    def at(self, path: KeyPath) -> Node | None:
        """The place below all of ``path``."""
        node: Node | None = self
        for key in path:
            node = node.child(key) if node else None
        return node

    def has(self, kind: type) -> bool:
        return any(_is(member, kind) for member in self.members)

    @cached_property
    def secret(self) -> bool:
        """Whether a secret stands here or anywhere below."""
        return _holds_secret(self, frozenset())


class Root(Node):
    """The whole configuration: one field for each section."""

    def __init__(self, sections: Iterable[type[Section]]) -> None:
        super().__init__(None)
        self.sections = {section.section: section for section in sections}
        self.fields = {name: Node(section) for name, section in self.sections.items()}


def read_text(text: str, node: Node) -> Any:
    """The value that a text of the environment or of a secret file stands for where ``node`` is expected.

    Lists are JSON or separated by commas or newlines, tables are JSON; a text that fits nothing stays what it is, and
    validation will say what is wrong with it.
    """
    word = text.strip()
    if not word and node.has(types.NoneType) and not node.has(str):
        return None
    if node.has(bool) and word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE
    for kind in (int, float):
        if node.has(kind) and (number := _number(word, kind)) is not None:
            return number
    if node.item is not None and not word.startswith("["):
        return [read_text(part.strip(), node.item) for part in re.split(r"[,\n]", text) if part.strip()]
    if node.item is not None or node.entry is not None or node.infos:
        return _json(word, text)
    return text


def _number(word: str, kind: type[int] | type[float]) -> int | float | None:
    try:
        return kind(word)
    except ValueError:
        return None


def _json(word: str, otherwise: str) -> Any:
    try:
        value = json.loads(word)
        if not too_deep(value):
            json.dumps(value, ensure_ascii=False).encode()
            return value
    except (ValueError, RecursionError):
        pass
    return otherwise


def _flatten(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if hasattr(annotation, "__value__"):
        yield from _flatten(annotation.__value__)
    elif origin is Annotated:
        yield from _flatten(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _flatten(member)
    elif origin is Literal:
        yield from dict.fromkeys(type(value) for value in get_args(annotation))
    elif annotation is None:
        yield types.NoneType
    else:
        yield annotation


def _is(annotation: Any, kind: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, kind)


def _holds_secret(node: Node, seen: frozenset[Any]) -> bool:
    if any(_is(get_origin(member) or member, (SecretStr, SecretBytes, Secret)) for member in node.members):
        return True
    models = frozenset(member for member in node.members if _is(member, BaseModel))
    if models and models <= seen:
        return False
    below = (*node.fields.values(), node.entry, node.item)
    return any(_holds_secret(child, seen | models) for child in below if child is not None)
