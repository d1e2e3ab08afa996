"""Readers of single fields of an OpenAI request, and the words in which OpenAI refuses them.

A reader takes a decoded JSON value that is not null and the field's full name (``messages[1].content``), and returns
the value in the gateway's form. All of them raise :class:`~gatewaykit.errors.BadRequest` with that name as ``param``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from gatewaykit.errors import BadRequest

Reader: TypeAlias = Callable[[Any, str], Any]

MAX_DEPTH = 100
"""How deep free-form documents (schemas, unknown fields) may nest: far from the limit of any encoder behind us."""

INT64 = 2**63

_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


# refusals


def missing(name: str) -> BadRequest:
    """A field that must be there is not, or is null."""
    return BadRequest(f"Missing required parameter: '{name}'.", param=name)


def wrong_type(name: str, expected: str, value: Any) -> BadRequest:
    """A field has a value of another type; ``expected`` is a noun with its article."""
    return BadRequest(
        f"Invalid type for '{name}': expected {expected}, but got {_KINDS[type(value)]} instead.", param=name
    )


def unsupported(name: str, value: Any, allowed: Sequence[str]) -> BadRequest:
    """A word is not among those that this field knows."""
    words = [f"'{word}'" for word in allowed]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return BadRequest(f"Invalid value: '{_shown(value)}'. Supported values are: {listed}.", param=name)


def invalid(name: str, reason: str) -> BadRequest:
    """A field has the right type and still cannot be accepted."""
    return BadRequest(f"Invalid '{name}': {reason}.", param=name)


def _shown(value: Any) -> str:
    """``value`` as an error message may repeat it: on one line and not longer than a client can want."""
    text = str(value)[:60]
    return text if text.isprintable() else ascii(text)[1:-1]


# readers


def text(value: Any, name: str) -> str:
    """Any string."""
    if type(value) is not str:
        raise wrong_type(name, "a string", value)
    return value


def text_of(low: int, high: int) -> Reader:
    """A reader of strings with ``low`` to ``high`` characters."""

    def read(value: Any, name: str) -> str:
        found = text(value, name)
        if len(found) < low:
            raise invalid(name, f"string too short. Expected a string with minimum length {low}")
        if len(found) > high:
            raise invalid(name, f"string too long. Expected a string with maximum length {high}")
        return found

    return read


def boolean(value: Any, name: str) -> bool:
    """True or false; numbers are neither."""
    if type(value) is not bool:
        raise wrong_type(name, "a boolean", value)
    return value


def number(low: float, high: float) -> Reader:
    """A reader of numbers from ``low`` to ``high``; booleans are not numbers."""

    def read(value: Any, name: str) -> float:
        if type(value) is not float and type(value) is not int:
            raise wrong_type(name, "a decimal", value)
        if not low <= value <= high:
            raise _outside("decimal", value, low, high, name)
        return float(value)

    return read


def integer(low: int, high: int) -> Reader:
    """A reader of integers from ``low`` to ``high``; ``1.0`` is not one."""

    def read(value: Any, name: str) -> int:
        if type(value) is not int:
            raise wrong_type(name, "an integer", value)
        if not low <= value <= high:
            raise _outside("integer", value, low, high, name)
        return value

    return read


def _outside(kind: str, value: float, low: float, high: float, name: str) -> BadRequest:
    if value < low:
        return invalid(name, f"{kind} below minimum value. Expected a value >= {low}, but got {_shown(value)} instead")
    return invalid(name, f"{kind} above maximum value. Expected a value <= {high}, but got {_shown(value)} instead")


def one_of(*words: str) -> Reader:
    """A reader of one of these words."""

    def read(value: Any, name: str) -> str:
        word = text(value, name)
        if word not in words:
            raise unsupported(name, word, words)
        return word

    return read


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Any JSON object."""
    if type(value) is not dict:
        raise wrong_type(name, "an object", value)
    return value


def array(value: Any, name: str) -> list[Any]:
    """Any JSON array."""
    if type(value) is not list:
        raise wrong_type(name, "an array", value)
    return value


def filled_array(value: Any, name: str) -> list[Any]:
    """A JSON array with at least one element."""
    items = array(value, name)
    if not items:
        raise invalid(name, "empty array. Expected an array with minimum length 1, but got an empty array instead")
    return items


def document(value: Any, name: str) -> dict[str, Any]:
    """A JSON object of the client's own making (a schema), not nested too deep."""
    found = mapping(value, name)
    shallow(found, name)
    return found


def shallow(value: Any, name: str) -> None:
    """Refuse what nests deeper than :data:`MAX_DEPTH`: it could be read, and then not be written again."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node if type(node) is list else ())
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise invalid(name, f"nested too deep. Expected at most {MAX_DEPTH} levels")


def required(document: Mapping[str, Any], key: str, read: Reader, parent: str) -> Any:
    """``document[key]`` as ``read`` understands it; ``parent`` is the document's own full name."""
    value = document.get(key)
    name = f"{parent}.{key}"
    if value is None:
        raise missing(name)
    return read(value, name)


def required_text(document: Mapping[str, Any], key: str, parent: str, minimum: int = 0) -> str:
    """``document[key]``, a string of at least ``minimum`` characters; writes no name unless it is needed."""
    value = document.get(key)
    if type(value) is str and len(value) >= minimum:
        return value
    return str(required(document, key, text_of(minimum, INT64), parent))


def optional(document: Mapping[str, Any], key: str, read: Reader, parent: str) -> Any:
    """The same for a field that may be left out or null: then ``None``."""
    value = document.get(key)
    return None if value is None else read(value, f"{parent}.{key}")
