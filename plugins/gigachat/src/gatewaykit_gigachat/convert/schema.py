"""JSON Schema in the dialect that GigaChat accepts for a function's parameters.

The rules come from the vendor's SDK and from error reports, and newer models may know more: they stand here and nowhere
else. Every node has one ``type``; objects have ``properties`` and arrays ``items``; there are no references, no
combinations, no ``null``, defaults or titles; only strings have ``enum``. What cannot be said so is told in
``description``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gatewaykit.errors import BadRequest
from gatewaykit_gigachat.convert.references import inline_references
from gatewaykit_gigachat.convert.unions import Schema, choices, kind_of, single

_FORMATS = frozenset({"date", "time", "date-time"})
_MAX_LISTED = 500
_MAX_KEPT_BYTES = 16 * 1024
_SIZES: dict[str, tuple[str, ...]] = {"array": ("minItems", "maxItems"), "string": ("minLength", "maxLength")}
_BOUNDS = ("minimum", "maximum")


def clean_parameters(parameters: Mapping[str, Any] | None, param: str) -> Schema:
    """The parameters of a function in GigaChat's dialect; none at all is an object without properties.

    Raises :class:`~gatewaykit.errors.BadRequest` with ``param`` for a schema that is too large, has references that
    lead nowhere, or is not of type ``object``.
    """
    if not parameters:
        return {"type": "object", "properties": {}}
    try:
        written = msgspec.json.encode(dict(parameters))
    except RecursionError:
        raise BadRequest("This JSON Schema nests too deep.", param=param) from None
    kept = _kept(written) if len(written) <= _MAX_KEPT_BYTES else None
    return kept or _cleaned(parameters, param)


@lru_cache(maxsize=256)
def _kept(written: bytes) -> Schema | None:
    """The cleaned form of small schemas, which come again with every turn; ``None`` for a large or a faulty one."""
    try:
        schema = _cleaned(msgspec.json.decode(written), "")
    except BadRequest:
        return None
    return schema if len(msgspec.json.encode(schema)) <= _MAX_KEPT_BYTES else None


def _cleaned(parameters: Mapping[str, Any], param: str) -> Schema:
    schema, _ = _node(inline_references(parameters, param))
    if schema["type"] != "object":
        raise BadRequest("The parameters of a function must be an object.", param=param)
    return schema


def _node(schema: Any) -> tuple[Schema, bool]:
    """One schema, cleaned, and whether its value may be null, which becomes: may be left out."""
    if type(schema) is not dict:
        return {"type": "string"}, False
    schema, optional, lost = single(schema)
    kind, null, words = kind_of(schema)
    node: Schema = {"type": kind}
    values = choices(schema)
    lost = [*lost, *words]
    if values is not None:
        optional = optional or None in values
        lost += _choice(node, [value for value in values if value is not None])
    _MEMBERS[kind](schema, node)
    if description := _described(schema, lost):
        node["description"] = description
    return node, optional or null


def _choice(node: Schema, values: list[Any]) -> list[str]:
    """Put the values into ``enum`` if they are strings; else say them in words."""
    if not values:
        return []
    if node["type"] == "string" and all(type(value) is str for value in values):
        node["enum"] = list(dict.fromkeys(values))
        return []
    listed = ", ".join(msgspec.json.encode(value).decode() for value in values[:_MAX_LISTED])
    return [f"One of: {listed[:_MAX_LISTED]}"]


def _described(schema: Schema, lost: list[str]) -> str:
    given = schema.get("description")
    description = given if type(given) is str else ""
    if not lost:
        return description
    words = "; ".join(dict.fromkeys(lost))
    return f"{description} ({words})" if description else words


def _object(schema: Schema, node: Schema) -> None:
    properties: Schema = {}
    optional = set()
    given = schema.get("properties")
    for name, child in given.items() if type(given) is dict else ():
        properties[name], null = _node(child)
        if null:
            optional.add(name)
    node["properties"] = properties
    required = schema.get("required")
    if type(required) is list:
        names = [name for name in required if type(name) is str and name in properties and name not in optional]
        if names:
            node["required"] = list(dict.fromkeys(names))


def _array(schema: Schema, node: Schema) -> None:
    items = schema.get("items")
    if type(items) is not dict:
        tuples = schema.get("prefixItems", items)
        items = {"anyOf": tuples} if type(tuples) is list else {}
    node["items"] = _node(items)[0]
    _copy_sizes(schema, node)


def _string(schema: Schema, node: Schema) -> None:
    kind = schema.get("format")
    if type(kind) is str and kind in _FORMATS:
        node["format"] = kind
    pattern = schema.get("pattern")
    if type(pattern) is str:
        node["pattern"] = pattern
    _copy_sizes(schema, node)


def _number(schema: Schema, node: Schema) -> None:
    for keyword in _BOUNDS:
        if type(bound := schema.get(keyword)) is int or type(bound) is float:
            node[keyword] = bound


def _boolean(schema: Schema, node: Schema) -> None:
    """There is nothing more to say of a truth value."""


def _copy_sizes(schema: Schema, node: Schema) -> None:
    for keyword in _SIZES[node["type"]]:
        if type(size := schema.get(keyword)) is int and size >= 0:
            node[keyword] = size


_MEMBERS: dict[str, Callable[[Schema, Schema], None]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _number,
    "boolean": _boolean,
}

__all__ = ["clean_parameters"]
