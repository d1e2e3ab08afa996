"""Whether a JSON value fits a JSON Schema, for the keywords that the sandbox writes values for.

Known: ``type``, ``enum``, ``const``, ``properties``, ``required``, ``additionalProperties``,
``minProperties``, ``maxProperties``, ``items``, ``prefixItems``, ``minItems``, ``maxItems``, ``uniqueItems``,
``minLength``, ``maxLength``, ``minimum``, ``maximum``, ``exclusiveMinimum``, ``exclusiveMaximum``, ``multipleOf``,
``allOf``, ``anyOf``, ``oneOf`` and ``$ref`` into the same document. Other keywords, and known ones
with a value of a wrong type, say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

import msgspec

DEEPEST = 64
MOST_STEPS = 20_000


class Unsatisfiable(ValueError):
    """No value fits the schema, or none was found within reason."""


def conforms(schema: Any, value: Any) -> bool:
    """Whether ``value`` fits ``schema``; a schema beyond reason fits nothing."""
    return _Checker(schema).fits(schema, value, 0)


def canonical(value: Any) -> bytes:
    """Equal for values that JSON Schema calls equal: 1 and 1.0 are, 1 and true are not."""
    return msgspec.json.encode(_whole(value), order="deterministic")


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(child) for name, child in value.items()}
    return [_whole(child) for child in value] if isinstance(value, list) else value


def fraction(value: float) -> Fraction:
    """The decimal number that ``value`` was written as."""
    return Fraction(repr(value))


def number(schema: dict[str, Any], keyword: str) -> Fraction | None:
    """The number under ``keyword``, if there is one."""
    value = schema.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return fraction(value)


def size(schema: dict[str, Any], keyword: str) -> int | None:
    """The whole number, zero or more, under ``keyword``, if there is one."""
    value = number(schema, keyword)
    return int(value) if value is not None and value >= 0 and value.denominator == 1 else None


def resolve(root: Any, reference: str) -> Any:
    """The part of ``root`` that ``reference`` (``#/…``) points to; raises :class:`Unsatisfiable`."""
    node = root
    for part in reference.removeprefix("#").split("/")[1:] if reference.startswith("#") else ["\0"]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node:
            raise Unsatisfiable(f"nothing at {reference}")
        node = node[name]
    return node


def types(schema: dict[str, Any]) -> list[str]:
    """The types that ``schema`` names; none when it leaves the type open."""
    named = schema.get("type")
    if isinstance(named, str):
        return [named]
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def branches(schema: dict[str, Any], keyword: str) -> list[Any]:
    """The schemas under ``allOf``, ``anyOf`` or ``oneOf``."""
    found = schema.get(keyword)
    return found if isinstance(found, list) else []


def type_of(value: Any) -> str:
    """The JSON type of ``value``; whole floats are integers."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    names = {float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


class _Checker:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def fits(self, schema: Any, value: Any, depth: int) -> bool:
        self._steps += 1
        if depth > DEEPEST or self._steps > MOST_STEPS:
            return False
        if not isinstance(schema, dict):
            return schema is not False
        return all(self._verdicts(schema, value, depth))

    def _verdicts(self, schema: dict[str, Any], value: Any, depth: int) -> Iterator[bool]:
        kind = type_of(value)
        named = types(schema)
        yield not named or kind in named or (kind == "integer" and "number" in named)
        if isinstance(schema.get("enum"), list):
            yield canonical(value) in {canonical(choice) for choice in schema["enum"]}
        if "const" in schema:
            yield canonical(value) == canonical(schema["const"])
        yield from self._combined(schema, value, depth + 1)
        if kind == "string":
            yield _within(schema, "Length", len(value))
        elif kind in ("integer", "number"):
            yield from _number_verdicts(schema, fraction(value))
        elif kind == "array":
            yield from self._array(schema, value, depth + 1)
        elif kind == "object":
            yield from self._object(schema, value, depth + 1)

    def _combined(self, schema: dict[str, Any], value: Any, depth: int) -> Iterator[bool]:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            try:
                yield self.fits(resolve(self._root, reference), value, depth)
            except Unsatisfiable:
                yield False
        yield all(self.fits(branch, value, depth) for branch in branches(schema, "allOf"))
        if any_of := branches(schema, "anyOf"):
            yield any(self.fits(branch, value, depth) for branch in any_of)
        if one_of := branches(schema, "oneOf"):
            yield sum(self.fits(branch, value, depth) for branch in one_of) == 1

    def _array(self, schema: dict[str, Any], value: list[Any], depth: int) -> Iterator[bool]:
        yield _within(schema, "Items", len(value))
        if schema.get("uniqueItems") is True:
            yield len({canonical(item) for item in value}) == len(value)
        prefix = branches(schema, "prefixItems")
        yield all(self.fits(part, item, depth) for part, item in zip(prefix, value, strict=False))
        if "items" in schema:
            yield all(self.fits(schema["items"], item, depth) for item in value[len(prefix) :])

    def _object(self, schema: dict[str, Any], value: dict[str, Any], depth: int) -> Iterator[bool]:
        yield _within(schema, "Properties", len(value))
        required, properties = schema.get("required"), schema.get("properties")
        if isinstance(required, list):
            yield all(name in value for name in required if isinstance(name, str))
        known = properties if isinstance(properties, dict) else {}
        yield all(self.fits(known[name], child, depth) for name, child in value.items() if name in known)
        if "additionalProperties" in schema:
            extra = schema["additionalProperties"]
            yield all(self.fits(extra, child, depth) for name, child in value.items() if name not in known)


def _within(schema: dict[str, Any], noun: str, count: int) -> bool:
    least, most = size(schema, f"min{noun}"), size(schema, f"max{noun}")
    return (least is None or count >= least) and (most is None or count <= most)


def _number_verdicts(schema: dict[str, Any], value: Fraction) -> Iterator[bool]:
    least, most = number(schema, "minimum"), number(schema, "maximum")
    yield (least is None or value >= least) and (most is None or value <= most)
    above, below = number(schema, "exclusiveMinimum"), number(schema, "exclusiveMaximum")
    yield (above is None or value > above) and (below is None or value < below)
    step = number(schema, "multipleOf")
    yield step is None or step <= 0 or value % step == 0
