"""JSON Schema references (draft 2020-12, section 8.2.3) written out in place, within bounds.

A schema of a few lines can refer to itself so that it grows without end or doubles at every level: what is written out
is counted, recursion ends in an object without properties, and too much is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from gatewaykit.errors import BadRequest

MAX_DEPTH = 64
MAX_WEIGHT = 20_000
"""One for each node and for each value, and one more for every 64 characters of text in it."""

_DEFINITIONS = frozenset({"$defs", "definitions"})
_SCHEMAS_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas"})
_DATA = frozenset({"enum", "const", "default", "example", "examples", "required", "dependentRequired"})


def inline_references(schema: Mapping[str, Any], param: str) -> dict[str, Any]:
    """``schema`` without ``$ref``, ``$defs`` and ``definitions``; what stands beside a reference wins over its target.

    Raises :class:`~gatewaykit.errors.BadRequest` with ``param`` for a reference that leads nowhere or outside, and for
    a schema that is too large or too deep.
    """
    return _Inliner(dict(schema), param).schema()


class _Inliner:
    def __init__(self, root: dict[str, Any], param: str) -> None:
        self._root = root
        self._param = param
        self._left = MAX_WEIGHT
        self._open: set[int] = set()

    def schema(self) -> dict[str, Any]:
        return self._schema(self._root, 0)

    def _schema(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        self._pay(1, depth)
        reference = schema.get("$ref")
        if type(reference) is str:
            return self._followed(reference, schema, depth)
        return self._members(schema, depth)

    def _followed(self, reference: str, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        beside = self._members({key: value for key, value in schema.items() if key != "$ref"}, depth)
        target = self._target(reference)
        if id(target) in self._open:
            return {"type": "object", "properties": {}, **beside}
        self._open.add(id(target))
        found = self._schema(target, depth + 1)
        self._open.discard(id(target))
        return {**found, **beside}

    def _members(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _DEFINITIONS:
                continue
            if key in _SCHEMAS_BY_NAME and type(value) is dict:
                found[key] = {name: self._value(name, child, depth + 1) for name, child in value.items()}
            elif key in _DATA:
                found[key] = self._data(value, depth + 1)
            else:
                found[key] = self._value(key, value, depth + 1)
        return found

    def _value(self, key: str, value: Any, depth: int) -> Any:
        """A schema, a list of schemas, or what a keyword has in place of them."""
        self._pay(len(key) // 64, depth)
        if type(value) is dict:
            return self._schema(value, depth)
        if type(value) is list:
            return [self._value("", child, depth + 1) for child in value]
        return self._data(value, depth)

    def _data(self, value: Any, depth: int) -> Any:
        """Data, which is not searched for references, for ``$ref`` is only a word there; it is weighed all the same."""
        if type(value) is dict:
            self._pay(1 + sum(map(len, value)) // 64, depth)
            for child in value.values():
                self._data(child, depth + 1)
        elif type(value) is list:
            self._pay(1, depth)
            for child in value:
                self._data(child, depth + 1)
        else:
            self._pay(1 + len(value) // 64 if type(value) is str else 1, depth)
        return value

    def _pay(self, weight: int, depth: int) -> None:
        self._left -= weight
        if self._left < 0 or depth > MAX_DEPTH:
            raise BadRequest(
                "This JSON Schema is too large or nests too deep, with its references written out.", param=self._param
            )

    def _target(self, reference: str) -> dict[str, Any]:
        """What a local reference points to (RFC 6901, in the form of a URI fragment)."""
        node: Any = self._root
        if reference != "#":
            if not reference.startswith("#/"):
                raise self._nowhere(reference)
            for token in unquote(reference[2:]).split("/"):
                node = self._step(node, token.replace("~1", "/").replace("~0", "~"), reference)
        if type(node) is not dict:
            raise self._nowhere(reference)
        return node

    def _step(self, node: Any, token: str, reference: str) -> Any:
        if type(node) is dict and token in node:
            return node[token]
        if type(node) is list and token.isdecimal() and len(token) < 7 and int(token) < len(node):
            return node[int(token)]
        raise self._nowhere(reference)

    def _nowhere(self, reference: str) -> BadRequest:
        return BadRequest(f"This JSON Schema refers to {reference[:80]!a}, which is not in it.", param=self._param)


__all__ = ["MAX_DEPTH", "MAX_WEIGHT", "inline_references"]
