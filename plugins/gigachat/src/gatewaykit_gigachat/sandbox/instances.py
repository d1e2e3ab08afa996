"""Writing a JSON value that fits a JSON Schema, always the same one for the same schema.

Texts are the name of the property that they stand for, numbers are 1 where the bounds allow it, and
``enum`` gives its first value. The keywords are those of :mod:`.schema_check`, and ``format`` for
texts (date, time, date-time, uuid, email, uri); every value is checked before it is handed out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .schema_check import Unsatisfiable, branches, conforms, number, resolve, size, types

DEEPEST = 12
MOST_STEPS = 2_000
LONGEST_TEXT = 10_000
LONGEST_ARRAY = 1_000
LARGEST_WHOLE = 2**53

_FORMATS = {
    "date": "2025-01-01",
    "time": "12:00:00Z",
    "date-time": "2025-01-01T12:00:00Z",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "name@example.org",
    "uri": "https://example.org/",
}
_OPEN_KEYWORDS = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}


def instance_of(schema: Any, *, optional: bool = True) -> Any:
    """A value that fits ``schema``; raises :class:`Unsatisfiable`.

    ``optional`` writes the optional properties of objects too; without it, they are written only
    for objects that require none.
    """
    value = _Writer(schema, optional=optional).write(schema, "value", 0, 0)
    if not conforms(schema, value):
        raise Unsatisfiable("no fitting value found")
    return value


class _Writer:
    """``turn`` counts the items of an array, so that unique items differ from each other."""

    def __init__(self, root: Any, *, optional: bool) -> None:
        self._root = root
        self._optional = optional
        self._steps = 0

    def write(self, schema: Any, name: str, depth: int, turn: int) -> Any:
        self._steps += 1
        if schema is False or depth > DEEPEST or self._steps > MOST_STEPS:
            raise Unsatisfiable("nothing fits, or the schema is beyond reason")
        if not isinstance(schema, dict):
            return _text({}, name, turn)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list):
            return self._choice(schema, turn)
        for keyword in ("$ref", "allOf", "anyOf", "oneOf"):
            if keyword in schema:
                return self._combined(schema, keyword, name, depth + 1, turn)
        return self._typed(schema, name, depth, turn)

    def _choice(self, schema: dict[str, Any], turn: int) -> Any:
        local = _local(schema)
        fitting = (choice for choice in schema["enum"] if conforms(local, choice))
        for choice in itertools.islice(fitting, turn, None):
            return choice
        raise Unsatisfiable("too few fitting values in an enum")

    def _combined(self, schema: dict[str, Any], keyword: str, name: str, depth: int, turn: int) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        if keyword == "$ref":
            target = resolve(self._root, str(schema["$ref"]))
            return self.write(_merged(rest, target), name, depth, turn)
        options = branches(schema, keyword)
        if keyword == "allOf" or not options:
            for branch in options:
                rest = _merged(rest, branch)
            return self.write(rest, name, depth, turn)
        for option in options:
            try:
                value = self.write(_merged(rest, option), name, depth, turn)
            except Unsatisfiable:
                continue
            if conforms({**_with_definitions(self._root), keyword: options}, value):
                return value
        raise Unsatisfiable(f"no branch of {keyword} can be met")

    def _typed(self, schema: dict[str, Any], name: str, depth: int, turn: int) -> Any:
        kinds = types(schema) or [_open_type(schema)]
        for kind in sorted(kinds, key=lambda kind: kind == "null"):
            if kind == "object":
                return self._object(schema, depth + 1)
            if kind == "array":
                return self._array(schema, name, depth + 1)
            if kind in ("integer", "number"):
                return _number(schema, turn, whole=kind == "integer")
            if kind in ("string", "boolean", "null"):
                return {"string": _text(schema, name, turn), "boolean": turn % 2 == 0, "null": None}[kind]
        raise Unsatisfiable(f"unknown type {kinds}")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        known = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
        named = schema["required"] if isinstance(schema.get("required"), list) else []
        required = [name for name in named if isinstance(name, str)]
        most = size(schema, "maxProperties")
        extra = schema.get("additionalProperties", True)
        value: dict[str, Any] = {}
        for name in [*known, *(name for name in required if name not in known)]:
            if name not in required and not self._wants(len(required), len(value), most):
                continue
            try:
                value[name] = self.write(known.get(name, extra), name, depth, 0)
            except Unsatisfiable:
                if name in required:
                    raise
        for index in range(min(size(schema, "minProperties") or 0, LONGEST_ARRAY) - len(value)):
            value[f"key{index + 1}"] = self.write(extra, "value", depth, 0)
        return value

    def _wants(self, required: int, present: int, most: int | None) -> bool:
        """Whether an optional property shall be written."""
        return (self._optional or not required) and (most is None or max(present, required) < most)

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        least, most = size(schema, "minItems") or 0, size(schema, "maxItems")
        prefix = branches(schema, "prefixItems")
        count = max(least, len(prefix), 1)
        count = count if most is None else min(count, most)
        if count > LONGEST_ARRAY:
            raise Unsatisfiable("too long an array")
        unique = schema.get("uniqueItems") is True
        items: list[Any] = []
        for index in range(count):
            part = prefix[index] if index < len(prefix) else schema.get("items", True)
            try:
                items.append(self.write(part, name, depth, index if unique else 0))
            except Unsatisfiable:
                if len(items) < least:
                    raise
                break
        return items


def _local(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` without the keywords that point elsewhere in the document."""
    return {key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")}


def _with_definitions(root: Any) -> dict[str, Any]:
    if not isinstance(root, dict):
        return {}
    return {key: root[key] for key in ("$defs", "definitions") if key in root}


def _merged(first: Any, second: Any) -> Any:
    """A schema that asks for what both ask for, as far as the keywords can be joined."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return False if first is False or second is False else (second if isinstance(second, dict) else first)
    merged = {**first, **second}
    for keyword in ("properties", "$defs", "definitions"):
        if isinstance(first.get(keyword), dict) and isinstance(second.get(keyword), dict):
            merged[keyword] = {**first[keyword], **second[keyword]}
    for keyword in ("required", "allOf"):
        if isinstance(first.get(keyword), list) and isinstance(second.get(keyword), list):
            merged[keyword] = [*first[keyword], *(item for item in second[keyword] if item not in first[keyword])]
    for keyword, choose in _TIGHTER.items():
        bounds = [schema[keyword] for schema in (first, second) if number(schema, keyword) is not None]
        if bounds:
            merged[keyword] = choose(bounds)
    return merged


_TIGHTER = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}


def _open_type(schema: dict[str, Any]) -> str:
    return next((kind for keyword, kind in _OPEN_KEYWORDS.items() if keyword in schema), "string")


def _text(schema: dict[str, Any], name: str, turn: int) -> str:
    wanted = schema.get("format")
    text = _FORMATS.get(wanted, name) if isinstance(wanted, str) else name
    if turn:
        text = f"{turn}-{text}"
    least, most = size(schema, "minLength") or 0, size(schema, "maxLength")
    if least > LONGEST_TEXT:
        raise Unsatisfiable("too long a text")
    return text.ljust(least, "-")[:most]


def _number(schema: dict[str, Any], turn: int, *, whole: bool) -> int | float:
    step = number(schema, "multipleOf") or Fraction(0)
    if whole or step > 0:
        value = _multiple(schema, Fraction(step.numerator or 1) if whole else step, turn)
    else:
        value = _between(schema, turn)
    if value.denominator == 1 and abs(value) <= LARGEST_WHOLE:
        return int(value)
    if whole:
        raise Unsatisfiable("too large a number")
    try:
        return float(value)
    except OverflowError as error:
        raise Unsatisfiable("too large a number") from error


def _bounds(schema: dict[str, Any], keywords: tuple[str, str], widest: Callable[..., Fraction]) -> Fraction | None:
    found = [bound for keyword in keywords if (bound := number(schema, keyword)) is not None]
    return widest(found) if found else None


def _multiple(schema: dict[str, Any], step: Fraction, turn: int) -> Fraction:
    """The multiple of ``step`` within the bounds that is nearest to 1; later turns take the next ones."""
    least, above = number(schema, "minimum"), number(schema, "exclusiveMinimum")
    most, below = number(schema, "maximum"), number(schema, "exclusiveMaximum")
    lows = [math.ceil(least / step)] if least is not None else []
    lows += [math.floor(above / step) + 1] if above is not None else []
    highs = [math.floor(most / step)] if most is not None else []
    highs += [math.ceil(below / step) - 1] if below is not None else []
    factor = min([max([*lows, math.ceil(1 / step)]), *highs])
    if lows and highs:
        first, last = max(lows), min(highs)
        if first > last:
            raise Unsatisfiable("no number within the bounds")
        return (first + (factor - first + turn) % (last - first + 1)) * step
    return (factor - turn if highs else factor + turn) * step


def _between(schema: dict[str, Any], turn: int) -> Fraction:
    """1 if the bounds allow it, or a number next to or between them; later turns take others."""
    low = _bounds(schema, ("minimum", "exclusiveMinimum"), max)
    high = _bounds(schema, ("maximum", "exclusiveMaximum"), min)
    if (low is None or low < 1) and (high is None or high > 1):
        base = Fraction(1)
    elif low is not None and high is not None:
        base = (low + high) / 2
    else:
        base = low + 1 if low is not None else (high or Fraction(0)) - 1
    if high is None:
        return base + turn
    return base + (high - base) * Fraction(turn, turn + 1) if low is not None else base - turn
