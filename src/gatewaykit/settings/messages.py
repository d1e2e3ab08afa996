"""Faults in people's words: pydantic's error types, without its links and without any value that may be a secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

_Context = Mapping[str, Any]

_SAY: dict[str, Callable[[_Context], str]] = {
    "missing": lambda _: "is missing",
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than": lambda context: f"must be less than {context['lt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "multiple_of": lambda context: f"must be a multiple of {context['multiple_of']}",
    "finite_number": lambda _: "must be a finite number",
    "string_too_short": lambda context: _at_least(context["min_length"], "characters"),
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
    "too_short": lambda context: _at_least(context["min_length"], "entries"),
    "too_long": lambda context: f"must have at most {context['max_length']} entries",
    "string_pattern_mismatch": lambda context: f"must match {context['pattern']}",
    "literal_error": lambda context: f"must be {context['expected']}",
    "enum": lambda context: f"must be {context['expected']}",
    "url_parsing": lambda context: f"must be a URL ({context['error']})",
    "url_scheme": lambda context: f"must be a URL that starts with {context['expected_schemes']}",
}
_SAY |= dict.fromkeys(("int_type", "int_parsing", "int_from_float"), lambda _: "must be a whole number")
_SAY |= dict.fromkeys(("float_type", "float_parsing"), lambda _: "must be a number")
_SAY |= dict.fromkeys(("bool_type", "bool_parsing"), lambda _: "must be true or false")
_SAY |= dict.fromkeys(("string_type", "path_type", "url_type"), lambda _: "must be text")
_SAY |= dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), lambda _: "must be a list")
_SAY |= dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), lambda _: "must be a table")


def explain(error: ErrorDetails, known: Iterable[str], secrets: Iterable[str]) -> str:
    """What is wrong, as the end of a sentence about the key. ``known`` are the keys that would have been right;
    ``secrets`` are cut out of words that an author of a validator has chosen.
    """
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(str(error["loc"][-1]), known)
    if kind in _SAY:
        return _SAY[kind](context)
    said = str(context["error"]) if kind in {"value_error", "assertion_error"} else error["msg"]
    for secret in sorted(secrets, key=len, reverse=True):
        escaped = (repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False))
        for spelling in (secret, *(quoted[1:-1] for quoted in escaped)):
            said = said.replace(spelling, "********")
    return said


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest known name, or lists all if none is near."""
    names = sorted(known)
    if near := get_close_matches(wrong, names, n=1, cutoff=0.5):
        return f"; did you mean {near[0]}?"
    return f"; known are {', '.join(names)}" if names else ""


def shown(value: object) -> str:
    """A scalar for the end of a message, in one short line; lists and tables are not repeated."""
    if isinstance(value, bool):
        return f" (is {str(value).lower()})"
    if isinstance(value, str | int | float):
        text = repr(value)
        return f" (is {text if len(text) <= 60 else text[:57] + '...'})"
    return ""


def printable(name: str) -> str:
    """A name from outside as it may stand in a message: control characters and broken encodings escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _at_least(count: int, what: str) -> str:
    return "must not be empty" if count == 1 else f"must have at least {count} {what}"
