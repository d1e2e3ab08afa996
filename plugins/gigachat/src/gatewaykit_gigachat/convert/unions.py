"""JSON Schemas with ``allOf``, ``anyOf`` and ``oneOf`` made into one, which is wider where there is no equal one.

References are written out before. Nodes are only rearranged, never multiplied, so the result is no larger.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

KINDS = frozenset({"object", "array", "string", "number", "integer", "boolean"})
_COMBINING = frozenset({"allOf", "anyOf", "oneOf"})
_HINTS_OF_KIND = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minimum": "number",
    "maximum": "number",
}


def single(schema: Schema) -> tuple[Schema, bool, list[str]]:
    """``schema`` without combining keywords; whether null was among its choices; and what was lost, in words."""
    parts = schema.get("allOf")
    if type(parts) is list:
        schema = _without(schema, "allOf")
        for part in parts:
            if type(part) is dict:
                schema = _both(schema, part)
        return single(schema)
    for keyword in ("anyOf", "oneOf"):
        branches = schema.get(keyword)
        if type(branches) is list:
            chosen, optional, lost = _one_of(branches)
            inner, more_optional, more_lost = single(_both(_without(schema, keyword), chosen))
            return inner, optional or more_optional, lost + more_lost
    return schema, False, []


def kind_of(schema: Schema) -> tuple[str, bool, list[str]]:
    """The one type of ``schema``; whether null was another; and what was lost, in words."""
    given = schema.get("type")
    names = given if type(given) is list else [given]
    kinds = list(dict.fromkeys(name for name in names if type(name) is str and name in KINDS))
    optional = "null" in names or schema.get("nullable") is True
    if not kinds:
        return _implied(schema), optional, []
    kind, lost = _widest(kinds)
    return kind, optional, lost


def choices(schema: Schema) -> list[Any] | None:
    """The values that ``enum`` or ``const`` leaves, if there is one."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if type(values) is list else None


def _widest(kinds: list[str]) -> tuple[str, list[str]]:
    if len(kinds) == 1:
        return kinds[0], []
    if set(kinds) == {"integer", "number"}:
        return "number", []
    return "string" if "string" in kinds else kinds[0], [f"One of the types: {', '.join(kinds)}"]


def _implied(schema: Schema) -> str:
    for keyword, kind in _HINTS_OF_KIND.items():
        if keyword in schema:
            return kind
    kinds = {type(value) for value in choices(schema) or () if value is not None}
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "integer"
    return "number" if kinds and kinds <= {int, float} else "string"


def _one_of(branches: list[Any]) -> tuple[Schema, bool, list[str]]:
    optional = False
    lost: list[str] = []
    found: list[Schema] = []
    for branch in branches:
        if type(branch) is not dict:
            continue
        schema, null, words = single(branch)
        if _is_null(schema):
            optional = True
            continue
        optional, lost = optional or null, lost + words
        found.append(schema)
    if len(found) < 2:
        return found[0] if found else {}, optional, lost
    kinds = []
    for schema in found:
        kind, null, words = kind_of(schema)
        kinds.append(kind)
        optional, lost = optional or null, lost + words
    kind, narrowed = _widest(list(dict.fromkeys(kinds)))
    if narrowed:
        found = [schema for schema, its in zip(found, kinds, strict=True) if its == kind]
    return _joined(found, kind, bool(narrowed)), optional, lost + narrowed


def _is_null(schema: Schema) -> bool:
    return schema.get("type") == "null" or choices(schema) == [None]


def _joined(schemas: list[Schema], kind: str, narrowed: bool) -> Schema:
    """The choice among schemas of one type; ``narrowed`` says that there were others, whose values are allowed too."""
    if kind == "object":
        return _either(schemas)
    joined: Schema = {"type": kind}
    values = [choices(schema) for schema in schemas]
    if not narrowed and all(values):
        joined["enum"] = [value for some in values for value in some or ()]
    if kind == "array":
        items = [schema["items"] for schema in schemas if type(schema.get("items")) is dict]
        joined["items"] = items[0] if len(items) == 1 else {"anyOf": items}
    if texts := [text for schema in schemas if type(text := schema.get("description")) is str and text]:
        joined["description"] = " / ".join(texts)
    return joined


def _either(schemas: list[Schema]) -> Schema:
    """One object that may be any of these: all their properties, of which only the common ones are required."""
    by_name: dict[str, list[Any]] = {}
    for schema in schemas:
        for name, child in _properties(schema).items():
            by_name.setdefault(name, []).append(child)
    common = set.intersection(*(set(_required(schema)) for schema in schemas))
    return {
        "type": "object",
        "properties": {name: found[0] if len(found) == 1 else {"anyOf": found} for name, found in by_name.items()},
        "required": [name for name in by_name if name in common],
    }


def _both(first: Schema, second: Schema) -> Schema:
    """One schema for what must fit both; where they say different things the first is believed."""
    if not _COMBINING.isdisjoint(second):
        second = single(second)[0]
    merged = {**second, **first}
    if "properties" in first and "properties" in second:
        properties = dict(_properties(second))
        for name, child in _properties(first).items():
            properties[name] = {"allOf": [child, properties[name]]} if name in properties else child
        merged["properties"] = properties
    if "required" in first and "required" in second:
        merged["required"] = [*_required(first), *_required(second)]
    return merged


def _properties(schema: Schema) -> Schema:
    found = schema.get("properties")
    return found if type(found) is dict else {}


def _required(schema: Schema) -> list[str]:
    found = schema.get("required")
    return [name for name in found if type(name) is str] if type(found) is list else []


def _without(schema: Schema, keyword: str) -> Schema:
    return {key: value for key, value in schema.items() if key != keyword}


__all__ = ["KINDS", "Schema", "choices", "kind_of", "single"]
